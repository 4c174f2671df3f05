"""Stage `views`: cut rectified views of the whole circle from the captures, for the gallery and for training.

A person's photo may look in any direction, so the gallery holds views of equally spaced headings. Views for training
have random headings, lenses, tilts and tones, as photos have. A collection whose field of view is not known (provider
archive) has no views; the tables are empty then.

Shards are in a folder for each split, and the views that a training sees have a table of their own. So more places of
split gallery change nothing that the stage `train` reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
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
from streetrecall.params.schema import Params, TrainingViews, Views, load
from streetrecall.pictures import shards, tone
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.pictures.panoramas import Source, open_panorama, usable_panoramas
from streetrecall.pictures.projections import Panorama, View
from streetrecall.progress import progress
from streetrecall.store.results import Results, kept
from streetrecall.tables import SPLITS, TRAINING_SPLITS, Use

log = logging.getLogger(__name__)

_FEW = 40  # up to so many panoramas are cut in this process: others take seconds to start
_FOLDERS = [f"{below}/{split}" for below in ("shared", "local") for split in SPLITS]
_TRIES = 20  # draws of a training view until the frames hold it
_HEADING_JITTER = 0.3  # of a training view, share of the angle between two of them


@dataclass(frozen=True)
class Result:
    """A view of the panorama in ``row``, and where it is in its shard."""

    row: int
    use: str
    heading_deg: float
    fov_deg: float
    shard: str
    offset: int
    size: int
    sha256: str
    width: int
    height: int


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--captures", type=Path, required=True, help="folder of captures.parquet and its shards")
    parser.add_argument("--locations", type=Path, required=True, help="LOCATIONS table to read")
    parser.add_argument("--views", type=Path, required=True, help="folder to write: tables and shards")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    require_in_project(*(args.views / folder for folder in _FOLDERS))
    run(load(args.params), args.captures, args.locations, args.views, args.metrics)


def run(params: Params, captures: Path, locations: Path, views: Path, metrics: Path) -> None:
    """Write the table VIEWS, of all views (views.parquet) and of those that a training sees (training.parquet), the
    shards and the counts.

    Raises:
        UserError: the place of a capture is unknown, or a shard does not hold what its table says.
    """
    taken = tables.read(tables.CAPTURES, captures / "captures.parquet")
    panoramas, left_out = usable_panoramas(taken)
    places = tables.read(tables.LOCATIONS, locations)
    work = plan_shards(panoramas, places, params.views.dates, locations)
    with fresh_folders(views, _FOLDERS) as fresh:
        for folder in _FOLDERS:
            shards.make_folder(fresh / folder, folder.partition("/")[0])
        settings = params.views.model_dump(exclude={"dates"})
        versions = {"code": code_digest(__name__), "pillow": PIL.__version__, "numpy": np.__version__}
        with kept("views", settings=settings, **versions) as known:
            results = list(make_shards(params.views, captures, fresh, work, known))
        table = assemble(panoramas, results, params.city.crs)
    tables.write(tables.VIEWS, table, views / "views.parquet")
    tables.write(tables.VIEWS, table[table["split"].isin(TRAINING_SPLITS)], views / "training.parquet")
    write_json(metrics, count(table, left_out))
    log.info("%d views of %d panoramas", len(table), table["pano_id"].nunique())


def plan_shards(panoramas: pd.DataFrame, places: pd.DataFrame, dates: int, where: Path) -> dict[str, list[Source]]:
    """The panoramas of each shard to write.

    The gallery gets the ``dates`` newest dates of a place that are older than its newest one. Training gets all dates
    of the places of split train. A shard holds whole places of one level, numbered within it. It is below shared/ or
    local/, as the captures are, in folders of the split and of the use.
    """
    number = places.sort_values("place").groupby("level").cumcount()
    home = dict(zip(places["place"], zip(places["level"], number.reindex(places.index), strict=True), strict=True))
    older = panoramas["date_index"] > 0
    rank = panoramas[older].groupby("place")["date_index"].rank(method="first")
    chosen = {Use.GALLERY: rank.index[rank <= dates], Use.TRAIN: panoramas.index[panoramas["split"] == "train"]}
    work: dict[str, list[Source]] = {}
    for use, rows in chosen.items():
        named = ("split", "subset", *Source.__dataclass_fields__)
        columns = [panoramas.loc[rows, name] for name in named if name != "row"]
        for row, split, subset, place, *rest in zip(rows, *columns, strict=True):
            if place not in home:
                raise UserError(f"{where}: place {place} of the captures is unknown; run dvc repro scrape")
            source = Source(int(row), int(place), *rest)
            level, index = home[place]
            below = source.pictures[0][1].partition("/")[0]
            shard = f"{below}/{split}/{use}/{shards.shard_name(str(subset), int(level), int(index))}"
            work.setdefault(shard, []).append(source)
    return work


def make_shards(
    settings: Views, captures: Path, views: Path, work: dict[str, list[Source]], known: Results
) -> Iterator[Result]:
    """Cut the views below ``views`` on all cores. The output depends neither on their number nor on what is known."""
    total = sum(map(len, work.values()))
    make = partial(make_shard, settings, captures, views, known)
    with progress(total, "views", "panorama") as bar:
        for (_, sources), results in zip(
            sorted(work.items()), map_in_order(make, sorted(work.items()), use_processes=total > _FEW), strict=True
        ):
            bar.update(len(sources))
            yield from results


def make_shard(
    settings: Views, captures: Path, views: Path, known: Results, item: tuple[str, list[Source]]
) -> list[Result]:
    """Write one shard below ``views`` from ``item``, its path and its panoramas. What is ``known`` is not cut again."""
    shard, sources = item
    use = Use(shard.split("/")[2])
    before = known.read(source.key(use) for source in sources)
    new: dict[str, bytes] = {}
    made: dict[str, tuple[Source, View, bytes]] = {}
    with shards.ShardReader(captures) as reader:
        for source in sources:
            key = source.key(use)
            cut = unpack(before[key]) if key in before else cut_views(settings, source, reader, use)
            if key not in before:
                new[key] = pack(cut)
            digest = hashlib.blake2b(source.pano_id.encode(), digest_size=6).hexdigest()
            for view, data in cut:
                name = f"{source.place:06d}_{source.month or 'undated'}_{digest}_{round(view.heading_deg * 10):04d}.jpg"
                made[name] = source, view, data
    known.write(new)
    results = []
    for member in shards.write_shard(views / shard, [(name, data) for name, (_, _, data) in made.items()]):
        source, view, data = made[member.name]
        results.append(
            Result(
                source.row, use, view.heading_deg, view.fov_deg, shard, member.offset, member.size,
                hashlib.sha256(data).hexdigest(), view.width, view.height,
            )
        )  # fmt: skip
    return results


def cut_views(settings: Views, source: Source, reader: shards.ShardReader, use: Use) -> list[tuple[View, bytes]]:
    """The views of one panorama as JPEGs; none if it has no picture that can be decoded."""
    panorama = open_panorama(source, reader)
    if panorama is None:
        return []
    if use == Use.GALLERY:
        return list(gallery_views(settings, panorama))
    return list(training_views(settings, panorama, source.pano_id))


def pack(cut: list[tuple[View, bytes]]) -> bytes:
    """Views and their JPEGs as one sequence of bytes, for `Results`."""
    header = json.dumps([(astuple(view), len(data)) for view, data in cut]).encode()
    return header + b"\n" + b"".join(data for _, data in cut)


def unpack(packed: bytes) -> list[tuple[View, bytes]]:
    """What `pack` was given."""
    header, _, data = packed.partition(b"\n")
    cut, at = [], 0
    for view, size in json.loads(header):
        cut.append((View(*view), data[at : at + size]))
        at += size
    return cut


def gallery_views(settings: Views, panorama: Panorama) -> Iterator[tuple[View, bytes]]:
    """Views of equally spaced headings, from north; those that the pictures do not hold are left out."""
    for k in range(settings.directions):
        view = View(k * 360.0 / settings.directions, settings.fov_deg, settings.size, settings.size)
        if panorama.holds(view):
            yield view, encode_jpeg(panorama.cut(view), settings.quality)


def training_views(settings: Views, panorama: Panorama, pano_id: str) -> Iterator[tuple[View, bytes]]:
    """Views as photos are, all around. They depend on the seed and on the panorama alone."""
    training = settings.training
    seed = int.from_bytes(hashlib.blake2b(pano_id.encode(), digest_size=8).digest(), "big")
    step = 360.0 / training.views
    first = np.random.default_rng([settings.seed, seed]).uniform(0, step)
    for k in range(training.views):
        rng = np.random.default_rng([settings.seed, seed, k])
        for _ in range(_TRIES):
            heading = first + step * (k + rng.uniform(-_HEADING_JITTER, _HEADING_JITTER))
            view = draw_view(training, heading, rng)
            if panorama.holds(view):
                yield view, encode_jpeg(*_as_a_photo(settings, panorama.cut(view), rng))
                break


def draw_view(training: TrainingViews, heading: float, rng: np.random.Generator) -> View:
    """A square view near ``heading``, with a random lens, tilt and roll."""
    pitch = rng.uniform(training.pitch_deg[0], training.pitch_deg[1])
    roll = rng.uniform(-training.roll_deg, training.roll_deg)
    fov = rng.uniform(training.fov_deg[0], training.fov_deg[1])
    return View(round(heading, 1) % 360.0, round(fov, 1), training.size, training.size, pitch, roll)


def _as_a_photo(settings: Views, picture: tone.Bytes, rng: np.random.Generator) -> tuple[tone.Bytes, int]:
    """The picture with a phone's tone and something in the way, by chance, and its JPEG quality."""
    quality = settings.quality
    if rng.random() < settings.training.phone_share:
        picture, quality = tone.phone(picture, rng), tone.jpeg_quality(rng)
    if rng.random() < settings.training.covered_share:
        picture = tone.cover(picture, rng)
    return picture, quality


def assemble(panoramas: pd.DataFrame, results: Sequence[Result], crs: str) -> pd.DataFrame:
    """The table VIEWS of the panoramas and of the views cut from them."""
    made = pd.DataFrame(results, columns=list(Result.__dataclass_fields__))
    carried = [
        *("place", "pano_id", "month", "date_index", "split", "subset", "lat", "lon"),
        *("provider", "licence", "attribution"),
    ]
    of = panoramas.reindex(columns=carried).loc[made["row"].to_numpy(int)].reset_index(drop=True)
    table = pd.concat([of, made.drop(columns="row")], axis=1)
    table["x"], table["y"] = project(table["lat"].to_numpy(float), table["lon"].to_numpy(float), crs)
    table["order"] = table["split"].map(SPLITS.index)
    table = table.sort_values(["order", "use", "place", "date_index", "pano_id", "heading_deg"], ignore_index=True)
    table["view_id"] = np.arange(len(table))
    return table[list(tables.VIEWS.columns)]


def count(table: pd.DataFrame, left_out: dict[str, int]) -> dict[str, Any]:
    """Numbers of views, panoramas and places by use, and of panoramas that were left out."""
    return {
        "views": len(table),
        "bytes": int(table["size"].sum()),
        "shards": int(table["shard"].nunique()),
        "panoramas_left_out": left_out,
        **{
            str(use): {
                "views": len(rows),
                "panoramas": int(rows["pano_id"].nunique()),
                "places": int(rows["place"].nunique()),
                "places_by_split": {str(k): int(v) for k, v in rows.groupby("split")["place"].nunique().items()},
            }
            for use, rows in ((use, table[table["use"] == use]) for use in Use)
        },
    }
