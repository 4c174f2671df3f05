"""Write a bundle. The same inputs give the same bytes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.bundle import card, layout
from streetrecall.bundle.layout import Calibration
from streetrecall.errors import UserError
from streetrecall.files import fresh_folders, write_array, write_json, write_text
from streetrecall.geo import unproject
from streetrecall.parallel import map_in_order
from streetrecall.params.schema import Params
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.pictures.photo import reduce_to
from streetrecall.pictures.shards import ShardReader
from streetrecall.progress import progress
from streetrecall.retrieval import index as indexes
from streetrecall.retrieval.points import Pictures, points_of_views
from streetrecall.retrieval.portable import PortableFile
from streetrecall.scoring.ranking import Floats

CHUNK = 64  # pictures that a process reads at a time
FEW = 2000  # so few pictures are not worth the start of processes
SHARED = "shared/"  # how the shards of pictures begin that may be given away
SETTINGS = ("provider", "city", "crop", "views", "photos", "train", "index", "evaluate", "bundle")
_STEP_M = 10.0  # over which the change of degrees with metres is measured


@dataclass(frozen=True)
class Answering:
    """The pictures that answer: ``rows`` (n rows: VIEWS columns, or those of IMAGES), in shards below ``folder``.

    ``descriptors`` (n, d) are of unit norm. ``kind`` is one of layout.VIEWS and layout.PICTURES.
    """

    kind: str
    folder: Path
    rows: pd.DataFrame
    descriptors: NDArray[np.floating]


def write(
    out: Path,
    answering: Answering,
    network: PortableFile,
    calibration: dict[str, dict[str, Calibration]],
    metrics: dict[str, Any],
    params: Params,
    backbone: str,
) -> dict[str, Any]:
    """Write the bundle to the folder ``out``, all of it or nothing; returns its manifest.

    Args:
        network: the embedder's LiteRT file, which is copied.
        calibration: by layout.FULL and QUICK, then by layout.SINGLE and SEVERAL.
        metrics: of the evaluation, for the model card and for people.
        backbone: name of the embedder's, for the model card; that of params.yaml may be another.

    Raises:
        UserError: there is no picture to answer with, or one cannot be read.
    """
    if answering.rows.empty:
        raise UserError("there is no picture in the gallery, so a bundle could answer nothing; collect more dates")
    order, table = in_order(answering)
    descriptors = np.asarray(answering.descriptors)[order]
    with fresh_folders(out.parent, [out.name]) as fresh:
        folder = fresh / out.name
        shutil.copyfile(network.path, folder / layout.EMBEDDER)
        write_array(folder / layout.DESCRIPTORS, descriptors.astype(np.float16))
        write_array(folder / layout.PLACES, _places(table, params.city.crs))
        source = Pictures(answering.folder, answering.rows.iloc[order])
        rerank = params.evaluate.photos.rerank
        counts = np.zeros(len(table), np.int64)
        if answering.kind == layout.VIEWS and rerank.places:
            counts = _write_points(folder, source, rerank.view_points)
        table = table.assign(first_point=np.cumsum(counts) - counts, points=counts)
        offsets, lengths = _write_thumbnails(folder, source, params)
        table = table.assign(thumbnail_offset=offsets, thumbnail_size=lengths)
        _write_table(table, folder / layout.GALLERY)
        index = indexes.build(descriptors.astype(np.float32), np.arange(len(table)), params.index, params.train.threads)
        if isinstance(index, indexes.ScannIndex):
            indexes.save(index, folder)
            (folder / indexes.FACTS).unlink()
        content = params.model_dump()
        write_json(folder / layout.PARAMS, {name: content[name] for name in SETTINGS})
        write_json(folder / layout.METRICS, metrics)
        manifest = {
            "version": layout.VERSION,
            "kind": answering.kind,
            "city": {"name": _city(params), "crs": params.city.crs},
            "backbone": backbone,
            "sizes": [list(size) for size in network.sizes],
            "answering": {
                "photos": content["evaluate"]["photos"],
                "position": content["evaluate"]["position"],
            },
            "calibration": {
                how: {many: asdict(one) for many, one in parts.items()} for how, parts in calibration.items()
            },
            "index": {"kind": index.kind, "settings": index.settings.model_dump()},
            "gallery": _about(table, descriptors.shape[1], int(counts.sum())),
        }
        write_text(folder / layout.CARD, card.text(manifest, metrics, params))
        manifest["files"] = _digests(folder)
        write_json(folder / layout.MANIFEST, manifest)
    return manifest


def _city(params: Params) -> str:
    return f"the city of provider {params.provider}" if params.city.name == "auto" else params.city.name


def in_order(answering: Answering) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """The order of the gallery, rows of ``answering``, and its table: places ascending, their panoramas one after the
    other, the newest first."""
    rows = answering.rows.reset_index(drop=True)
    ordered = rows.sort_values(["place", "month", "pano_id"], ascending=[True, False, True], kind="stable")
    order = ordered.index.to_numpy(np.int64)
    changes = (ordered[["place", "month", "pano_id"]] != ordered[["place", "month", "pano_id"]].shift()).any(axis=1)
    key = "view_id" if answering.kind == layout.VIEWS else "image_id"
    table = ordered.assign(picture=ordered[key], panorama=np.cumsum(changes.to_numpy()) - 1).reset_index(drop=True)
    return order, table[[name for name in layout.COLUMNS if name in table]]


def _places(table: pd.DataFrame, crs: str) -> Floats:
    """Of each place: x and y, the mean of its panoramas; latitude and longitude; and their change with x and y."""
    panoramas = table.drop_duplicates("panorama")
    xy = panoramas.groupby("place")[["x", "y"]].mean().to_numpy(float)
    steps = ((0.0, 0.0), (_STEP_M, 0.0), (0.0, _STEP_M))
    at = [np.column_stack(unproject(xy[:, 0] + east, xy[:, 1] + north, crs)) for east, north in steps]
    by_x, by_y = ((other - at[0]) / _STEP_M for other in at[1:])
    slopes = np.stack([by_x, by_y], axis=2)  # (p, lat and lon, x and y)
    return np.column_stack([xy, at[0], slopes.reshape(-1, 4)])


def _write_points(folder: Path, source: Pictures, most: int) -> NDArray[np.int64]:
    """Write the points of the views; returns how many each has."""
    counts = np.zeros(len(source.rows), np.int64)
    with (folder / layout.POINTS_XY).open("wb") as positions, (folder / layout.POINTS).open("wb") as values:
        for row, points in enumerate(points_of_views(source, np.arange(len(source.rows)), most)):
            positions.write(points.steps.tobytes())
            values.write(points.packed.tobytes())
            counts[row] = len(points.steps)
    return counts


def _write_thumbnails(folder: Path, source: Pictures, params: Params) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write small pictures of those that may be shared; returns offset and size of each, -1 and 0 where there is
    none."""
    settings = params.bundle
    offsets, lengths = np.full(len(source.rows), -1, np.int64), np.zeros(len(source.rows), np.int64)
    shared = np.flatnonzero(source.rows["shard"].str.startswith(SHARED)) if settings.thumbnail else np.zeros(0, int)
    members = source.members(shared)
    parts = [members[start : start + CHUNK] for start in range(0, len(members), CHUNK)]
    make = partial(_small, source.folder, settings.thumbnail, settings.quality)
    with (folder / layout.THUMBNAILS).open("wb") as file, progress(len(parts), "thumbnails", "chunk") as bar:
        rows: Iterator[int] = iter(shared.tolist())
        for made in map_in_order(make, parts, use_processes=len(members) > FEW):
            for data in made:
                row = next(rows)
                offsets[row], lengths[row] = file.tell(), len(data)
                file.write(data)
            bar.update()
    return offsets, lengths


def _small(folder: Path, longest: int, quality: int, members: list[tuple[str, int, int]]) -> list[bytes]:
    with ShardReader(folder) as reader:
        return [encode_jpeg(reduce_to(reader.read_picture(*member), longest), quality) for member in members]


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """The columns as arrays; NumPy gives all members of the file one fixed time."""
    arrays: dict[str, Any] = {}
    for name, kind in layout.COLUMNS.items():
        if kind == "str":
            texts, codes = np.unique(table[name].to_numpy(str), return_inverse=True)
            arrays[name + layout.TEXTS], arrays[name + layout.CODES] = texts, codes.astype(np.int32)
        else:
            arrays[name] = table[name].to_numpy(kind)
    np.savez_compressed(path, **arrays)


def _about(table: pd.DataFrame, dimensions: int, points: int) -> dict[str, Any]:
    months = table.loc[table["month"] != "", "month"]
    return {
        "pictures": len(table),
        "places": int(table["place"].nunique()),
        "panoramas": int(table["panorama"].nunique()),
        "dimensions": dimensions,
        "points": points,
        "thumbnails": int((table["thumbnail_offset"] >= 0).sum()),
        "months": [str(months.min()), str(months.max())] if len(months) else [],
        "undated": len(table) - len(months),
        "bounds": [round(float(v), 6) for v in (*table[["lat", "lon"]].min(), *table[["lat", "lon"]].max())],
        "licences": sorted(set(table["licence"]) - {""}),
        "attributions": sorted(set(table["attribution"]) - {""})[:50],
        "providers": sorted(set(table["provider"])),
    }


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = {"sha256": digest, "bytes": path.stat().st_size}
    return found
