"""Stage `crop`: make the pictures that the network sees from the captures, and mark those that are to be kept out.

Equirectangular captures, and places of split gallery, are for the stage `views` alone.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import fresh_folders, require_in_project, write_json
from streetrecall.geo import project
from streetrecall.imports import code_digest
from streetrecall.parallel import map_in_order
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Crop, Params
from streetrecall.pictures import cropping, shards
from streetrecall.pictures.cropping import Cropped, crop_picture
from streetrecall.pictures.quarantine import BLANK, UNDECODABLE, WRONG_SHAPE, quarantine
from streetrecall.progress import progress
from streetrecall.store.results import Results, kept
from streetrecall.tables import WITH_PICTURE, CaptureStatus

log = logging.getLogger(__name__)

_FOLDERS = [f"{below}/{split}" for below in ("shared", "local") for split in ("test", "train", "validation")]
_FEW = 400  # up to so many pictures are made in this process: others take seconds to start


@dataclass(frozen=True)
class Source:
    """Where the picture of a capture is (``row`` of the captures), and the name of the picture to make from it."""

    row: int
    shard: str
    offset: int
    size: int
    sha256: str
    name: str


@dataclass(frozen=True)
class Result:
    """Where the picture made from the capture in ``row`` is, and what it looks like (see `Cropped`).

    ``unchanged``: it has the bytes of the capture.
    """

    row: int
    shard: str
    offset: int
    size: int
    sha256: str
    phash: str
    luminance_mean: float
    luminance_std: float
    width: int
    height: int
    flaw: str
    unchanged: bool


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--captures", type=Path, required=True, help="folder of captures.parquet and its shards")
    parser.add_argument("--locations", type=Path, required=True, help="LOCATIONS table to read")
    parser.add_argument("--crops", type=Path, required=True, help="folder to write: images.parquet, shared, local")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    require_in_project(*(args.crops / folder for folder in _FOLDERS))
    run(parameters.load(args.params), args.captures, args.locations, args.crops, args.metrics)


def run(params: Params, captures: Path, locations: Path, crops: Path, metrics: Path) -> None:
    """Write the IMAGES table, its shards and the counts.

    Raises:
        UserError: there is no picture, a capture's place is unknown, or a shard does not hold what its table says.
    """
    taken = tables.read(tables.CAPTURES, captures / "captures.parquet")
    taken = taken[taken["status"].isin(WITH_PICTURE) & tables.for_crops(taken)].reset_index(drop=True)
    if taken.empty:
        raise UserError(f"{captures / 'captures.parquet'}: there is no picture; metrics/scrape.json counts the reasons")
    sources = plan_shards(taken, tables.read(tables.LOCATIONS, locations), locations)

    with fresh_folders(crops, _FOLDERS) as fresh:
        for folder in _FOLDERS:
            shards.make_folder(fresh / folder, folder.partition("/")[0])
        settings = params.crop
        with kept(
            "crop", settings=settings.model_dump(), code=code_digest(cropping.__name__), pillow=PIL.__version__
        ) as known:
            results = list(make_shards(settings, captures, fresh, sources, known))
        table = assemble(taken, results, params)
    tables.write(tables.IMAGES, table, crops / "images.parquet")
    write_json(metrics, count(table, sum(r.unchanged for r in results)))
    log_quarantine(table)


def plan_shards(taken: pd.DataFrame, places: pd.DataFrame, where: Path) -> dict[str, list[Source]]:
    """The pictures of each shard to write.

    A shard holds whole places of one level, numbered within it. It is below shared/ or local/ as its captures are.
    """
    places = places.sort_values("place")
    number = places.groupby("level").cumcount()
    level_and_number = dict(
        zip(places["place"].tolist(), zip(places["level"].tolist(), number.tolist(), strict=True), strict=True)
    )
    sources: dict[str, list[Source]] = {}
    for row, capture in enumerate(taken.to_dict("records")):
        place, split, source = capture["place"], capture["split"], str(capture["shard"])
        if place not in level_and_number:
            raise UserError(f"{where}: place {place} of the captures is unknown; run dvc repro scrape")
        below = source.partition("/")[0]
        shard = f"{below}/{split}/{shards.shard_name(str(capture['subset']), *level_and_number[place])}"
        panorama = hashlib.blake2b(str(capture["pano_id"]).encode(), digest_size=6).hexdigest()
        name = f"{place:06d}_{capture['direction']}_{capture['month'] or 'undated'}_{panorama}.jpg"
        sources.setdefault(shard, []).append(
            Source(row, source, int(capture["offset"]), int(capture["size"]), str(capture["sha256"]), name)
        )
    return sources


def make_shards(
    settings: Crop, captures: Path, crops: Path, sources: dict[str, list[Source]], known: Results
) -> Iterator[Result]:
    """Make the shards below ``crops`` on all cores. The output depends neither on their number nor on what is known."""
    total = sum(map(len, sources.values()))
    make = partial(make_shard, settings, captures, crops, known)
    with progress(total, "crop", "picture") as bar:
        for results in map_in_order(make, sorted(sources.items()), use_processes=total > _FEW):
            bar.update(len(results))
            yield from results


def make_shard(
    settings: Crop, captures: Path, crops: Path, known: Results, item: tuple[str, list[Source]]
) -> list[Result]:
    """Make one shard below ``crops`` from ``item``, its path and its pictures. What is ``known`` is not made again."""
    shard, sources = item
    before = known.read(s.sha256 for s in sources)
    new: dict[str, bytes] = {}
    made: list[Cropped] = []
    with shards.ShardReader(captures) as reader:
        for s in sources:
            if s.sha256 in before:
                made.append(Cropped.unpack(before[s.sha256], partial(reader.read, s.shard, s.offset, s.size)))
                continue
            data = reader.read(s.shard, s.offset, s.size)
            made.append(crop_picture(data, settings))
            if _sha256(data) == s.sha256:  # else the shard is damaged
                new[s.sha256] = made[-1].pack(data)
    known.write(new)
    members = shards.write_shard(crops / shard, [(s.name, p.data) for s, p in zip(sources, made, strict=True)])
    member = {m.name: m for m in members}
    digests = [_sha256(p.data) for p in made]
    return [
        Result(
            s.row, shard, member[s.name].offset, member[s.name].size, digest, p.phash,
            p.luminance_mean, p.luminance_std, p.width, p.height, p.flaw, unchanged=digest == s.sha256,
        )
        for s, p, digest in zip(sources, made, digests, strict=True)
    ]  # fmt: skip


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def assemble(taken: pd.DataFrame, results: list[Result], params: Params) -> pd.DataFrame:
    """The IMAGES table of the captures ``taken`` and of the pictures made from them."""
    made = pd.DataFrame(results).set_index("row").sort_index()
    table = taken[[c for c in tables.CAPTURES.columns if c in tables.IMAGES.columns]].copy()
    for column in ("shard", "offset", "size", "sha256", "phash", "luminance_mean", "luminance_std", "width", "height"):
        table[column] = made[column]
    table["x"], table["y"] = project(table["lat"], table["lon"], params.city.crs)
    flaws = {CaptureStatus.OK: "", CaptureStatus.BLANK: BLANK}
    table["flaw"] = made["flaw"].where(made["flaw"] != "", taken["status"].map(flaws))
    table = table.sort_values(
        ["split", "place", "direction", "month", "date_index", "pano_id"],
        ascending=[True, True, True, False, True, True],
        ignore_index=True,
    )
    table["image_id"] = np.arange(len(table))
    table["quarantine"] = quarantine(table, params.crop.quarantine)
    return table[list(tables.IMAGES.columns)]


def count(table: pd.DataFrame, unchanged: int) -> dict[str, Any]:
    """Numbers of pictures, by subset and by reason of quarantine."""
    used = table["quarantine"] == ""
    return {
        "images": len(table),
        "kept": int(used.sum()),
        "passed_unchanged": unchanged,
        "places": int(table.loc[used, "place"].nunique()),
        "quarantined": {str(k): int(v) for k, v in table[~used].groupby("quarantine").size().items()},
        "subsets": {
            str(subset): {"images": len(group), "kept": int((group["quarantine"] == "").sum())}
            for subset, group in table.groupby("subset")
        },
    }


def log_quarantine(table: pd.DataFrame) -> None:
    """Log how many pictures are in quarantine, and the first 20 that are damaged."""
    log.info("%d pictures, %d of them in quarantine", len(table), int((table["quarantine"] != "").sum()))
    damaged = table[table["quarantine"].isin([UNDECODABLE, WRONG_SHAPE])].head(20)
    for row in damaged[["quarantine", "place", "direction", "month", "source"]].itertuples(index=False):
        log.warning("%s: place %d, direction %d, %s %s", *row)
