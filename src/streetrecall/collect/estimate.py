"""`streetrecall estimate`: requests, downloads, hours, money and disk of each stage for the current params.

Nothing is asked and nothing is written. Grid points are counted exactly. What only the provider knows, such as how many
panoramas a place has, is taken from the tables of an earlier run where they are there, and else from ``RATES``, which
were measured on the default city. So the numbers are a plan's, to a factor of two or so.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from streetrecall import tables
from streetrecall.collect.polygon import CITIES
from streetrecall.parallel import available_cores
from streetrecall.params.schema import Level, Params, load
from streetrecall.printing import plain_table
from streetrecall.providers import is_local, polygon_path
from streetrecall.providers.base import is_dense
from streetrecall.providers.boxes import tile_of
from streetrecall.providers.folder.provider import FolderProvider, anchors_of
from streetrecall.providers.mapillary import read_ids
from streetrecall.stages.grid import lay
from streetrecall.stages.metadata import points_beyond
from streetrecall.tables import PHOTOS_OF_A_SPOT

KB, GB = 1e3, 1e9
PRICE = 14.0  # US dollars for 1,000 loads of a dynamic street view, Google's list price of 2025
BOXED = ("panoramax", "mapillary")  # providers that are searched by boxes


@dataclass(frozen=True)
class Rates:
    """Measured on the default city: 1,520 points, 309 panoramas, 293 places, 2,642 captures.

    Rates of training, points, photos and the bundle are of a later run on slower cores, with 10,284 gallery views.
    """

    panoramas_per_point: float = 0.20
    place_density: float = 0.70  # of places at least r apart, times r squared, in a full plane
    dates: float = 7.8  # of a place
    frame_bytes: float = 169 * KB
    sphere_bytes: float = 412 * KB
    picture_bytes: float = 14 * KB
    view_bytes: float = 23 * KB
    training_view_bytes: float = 14 * KB
    answer_bytes: float = 0.4 * KB  # about one point
    item_bytes: float = 3.0 * KB  # about one picture, in the answer about a box
    frames_per_second: float = 3.5  # of one browser
    latency_s: float = 0.15  # of one request to a distant service
    descriptions_per_second: float = 45.0  # pictures that one core describes
    trained_per_second: float = 4.7  # training pictures that one core is through with, all phases together
    points_per_second: float = 44.0  # views whose points one core finds
    photos_per_second: float = 2.6  # photos that one core compares with the points of 30 places
    points_bytes: float = 37.5 * KB  # of a view
    thumbnail_bytes: float = 6.2 * KB


RATES = Rates()


@dataclass(frozen=True)
class Line:
    """The cost of one stage: requests, bytes that are loaded, hours, US dollars, and bytes on disk."""

    stage: str
    requests: float = 0.0
    loaded: float = 0.0
    hours: float = 0.0
    dollars: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True)
class Counts:
    """What is to be collected. ``known``: the parts that were counted.

    ``dates`` of a place and ``picture_bytes`` of a picture are those of a folder's own files; None elsewhere.
    """

    points: int
    tiles: int
    panoramas: float
    places: dict[int, float]  # by level
    beyond: int = 0  # points beyond the grid
    known: tuple[str, ...] = ()
    dates: float | None = None
    picture_bytes: float | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of tables of an earlier run (%(default)s)"
    )
    parser.add_argument("--cities", type=Path, default=CITIES, help="folder of polygons (%(default)s)")
    parser.add_argument(
        "--dates", type=float, default=RATES.dates, help="dates of a place, as you expect (%(default)s)"
    )
    parser.add_argument("--price", type=float, default=PRICE, help="US dollars for 1,000 street views (%(default)s)")


def main(args: argparse.Namespace) -> None:
    params = load(args.params)
    counts = count(params, args.cities, args.data)
    lines = list(estimate(params, counts, args.dates, args.price))
    total = Line("total", *(sum(getattr(line, name) for line in lines) for name in list(Line.__dataclass_fields__)[1:]))
    header = ("stage", "requests", "download", "hours", "US dollars", "disk")
    print(plain_table(header, [cells(line) for line in [*lines, total]], ruled=True))
    print()
    places = sum(counts.places.values())
    print(
        f"{counts.points:,} grid points and {counts.beyond:,} around them, "
        f"about {counts.panoramas:,.0f} panoramas and {places:,.0f} places"
    )
    origin = " and ".join(counts.known)
    print(
        f"Counted: grid points{f' and {origin}' if origin else ''}. "
        "Other numbers are the default city's, to a factor of 2."
    )


def count(params: Params, cities: Path, data: Path) -> Counts:
    """What the current params would collect.

    Raises:
        UserError: the polygon or the params cannot be used.
    """
    laid = lay(params, polygon_path(params, cities))
    box = getattr(getattr(params, params.provider), "box_deg", 0.005)
    around = points_beyond(laid.points, params)
    positions = [
        position for points in (laid.points, around) for position in zip(points["lat"], points["lon"], strict=True)
    ]
    tiles = len({tile_of(lat, lon, box) for lat, lon in positions})
    known = []
    area_m2 = laid.area_m2 + len(around) * params.grid.spacing_m**2
    panoramas = RATES.panoramas_per_point * area_m2 / 100.0
    places: dict[int, float] = {}
    dates = picture_bytes = None
    if params.provider == "folder":
        panoramas, dates, picture_bytes = count_folder(params)
        known.append("the pictures of the folder")
    elif params.provider == "mapillary" and params.mapillary.ids != "none":
        panoramas = float(len(read_ids(Path(params.mapillary.ids))))
        known.append("the ids of mapillary.ids")
    found = _table(tables.PANORAMAS, data / "panoramas.parquet")
    if found is not None and set(found["provider"]) == {params.provider}:
        panoramas = len(found)
        known.append("panoramas of the last run")
        picked = _table(tables.LOCATIONS, data / "locations.parquet")
        if picked is not None and set(picked["pano_id"]) <= set(found["pano_id"]):
            levels = picked["level"].value_counts()
            places = dict(zip(levels.index.astype(int).tolist(), levels.astype(float).tolist(), strict=True))
            known.append("places of the last run")
    if not places:
        places = plan_places(params.order.levels, panoramas, area_m2)
    return Counts(len(laid.points), tiles, panoramas, places, len(around), tuple(known), dates, picture_bytes)


def count_folder(params: Params) -> tuple[float, float, float]:
    """Places of the folder's pictures, dates of a place, and bytes of a picture.

    Raises:
        UserError: the folder has no picture that can be used.
    """
    provider = FolderProvider(params)
    shots = provider.shots()
    places = len({anchor.shot_id for anchor in anchors_of(shots, params)})
    sizes = [(provider.root / shot.source).stat().st_size for shot in shots]
    return float(places), len(shots) / places, sum(sizes) / len(sizes)


def plan_places(levels: Sequence[Level], panoramas: float, area_m2: float) -> dict[int, float]:
    """How many places each level picks of so many panoramas in an area.

    A level fills the plane up to its density, as far as there are panoramas. It leaves out the share of the area that
    lies within its ``apart_m`` of places of other splits, if these are spread at random.

    >>> levels = [Level(radius_m=100.0, split="test", apart_m=0.0), Level(radius_m=10.0, split="train", apart_m=40.0)]
    >>> {level: round(places) for level, places in plan_places(levels, 500.0, 1e6).items()}
    {0: 70, 1: 302}
    """
    places: dict[int, float] = {}
    for number, level in enumerate(levels):
        others = sum(n for earlier, n in places.items() if levels[earlier].split != level.split)
        free = math.exp(-others * math.pi * level.apart_m**2 / area_m2)
        room = min(panoramas, RATES.place_density * area_m2 / level.radius_m**2) - sum(places.values())
        places[number] = max(0.0, room * free)
    return places


def estimate(params: Params, counts: Counts, dates: float = RATES.dates, price: float = PRICE) -> Iterator[Line]:
    """The lines of the stages that ask a provider or need much time or disk."""
    network, local = params.network, is_local(params.provider)
    dates = counts.dates or dates
    boxed, browsed = params.provider in BOXED, params.provider in ("google", "simulated")
    per_second = min(network.requests_per_second, network.threads / RATES.latency_s)

    def hours(requests: float) -> float:
        return requests / per_second / 3600

    asked = 0.0 if local else float(counts.tiles if boxed else counts.points + counts.beyond)
    loaded = counts.panoramas * dates * RATES.item_bytes if boxed else asked * RATES.answer_bytes
    yield Line("metadata", asked, loaded if not local else 0.0, hours(asked))

    frames = spheres = panoramas = 0.0
    for number, level in enumerate(params.order.levels):
        places = counts.places.get(number, 0.0)
        taken = min(dates, params.scrape.gallery_dates) if level.split == "gallery" else dates
        panoramas += places * taken
        if is_dense(level.split, level.radius_m) and params.provider != "google":
            spheres += places * taken
        else:
            frames += places * taken * len(params.scrape.headings_deg)
    stored = frames * RATES.frame_bytes + spheres * RATES.sphere_bytes
    if browsed:
        requests = frames + spheres + sum(counts.places.values())
        duration = frames / (RATES.frames_per_second * network.browsers) / 3600 + hours(spheres)
        dollars = panoramas / 1000 * price if params.provider == "google" else 0.0
        yield Line("scrape", requests, stored, duration, dollars, 2 * stored)
    else:
        requests = 0.0 if local else panoramas
        yield Line(
            "scrape", requests, requests * RATES.sphere_bytes, hours(requests), 0.0,
            panoramas * counts.picture_bytes if counts.picture_bytes else (1 if local else 2) * stored,
        )  # fmt: skip
    pictures = frames * RATES.picture_bytes
    yield Line("crop", hours=frames / 70 / 3600, disk=pictures)
    gallery = sum(counts.places.values()) * min(dates, params.views.dates) * params.views.directions
    trained = sum(
        counts.places.get(number, 0.0) * dates * params.views.training.views
        for number, level in enumerate(params.order.levels)
        if level.split == "train"
    )
    views = gallery * RATES.view_bytes + trained * RATES.training_view_bytes
    yield Line("views", hours=(gallery + trained) / 60 / 3600, disk=views)
    threads = max(1, params.train.threads)
    yield Line("train", hours=(trained or frames) / RATES.trained_per_second / threads / 3600)
    described = (frames + gallery) / RATES.descriptions_per_second / available_cores() / 3600
    size = (frames + gallery) * params.train.head.dimensions * 2
    yield Line("index", hours=described, disk=2 * size)
    rerank = params.evaluate.photos.rerank.places > 0
    photos = 2 * (1 + params.photos.far_share) * params.photos.spots * PHOTOS_OF_A_SPOT
    points = gallery / RATES.points_per_second if rerank else 0.0
    yield Line("evaluate", hours=(points + photos / RATES.photos_per_second) / available_cores() / 3600)
    answer = RATES.points_bytes * rerank + RATES.thumbnail_bytes + 2 * params.train.head.dimensions
    yield Line("bundle", disk=gallery * answer)


def cells(line: Line) -> tuple[str, ...]:
    """A line as text.

    >>> cells(Line("scrape", 1234.0, 2.5e9, 0.25, 17.3, 5e9))
    ('scrape', '1,234', '2.5 GB', '0.2', '17', '5.0 GB')
    """
    return (
        line.stage, f"{line.requests:,.0f}", _size(line.loaded), f"{line.hours:.1f}", f"{line.dollars:,.0f}",
        _size(line.disk),
    )  # fmt: skip


def _size(count: float) -> str:
    for unit, scale in (("GB", GB), ("MB", 1e6), ("KB", KB)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def _table(table: tables.Table, path: Path) -> pd.DataFrame | None:
    return tables.read(table, path) if path.is_file() else None
