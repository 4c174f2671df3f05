"""Single pictures with positions, as people take them: what the providers folder, panoramax and mapillary have.

Such a source has no panoramas by place. A place is where pictures lie near each other; its dates are their months. A
picture is flat, and shows the direction that it faces, or shows the whole sphere, and then serves every direction.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from streetrecall.params.schema import Params
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.pictures.inspect import decode
from streetrecall.pictures.projections import Sphere, View
from streetrecall.pictures.structure import NotAPictureError, read_structure
from streetrecall.providers.base import CaptureRequest, Panorama, dates_wanted
from streetrecall.tables import Projection

FLAT_SIDE = 640  # of the square that is made of a flat picture, pixels
# A frame cut from a sphere shows the world as the viewer pages do: so wide, and with so much of it above the horizon.
FRAME_FOV_DEG = 120.0
FRAME_HORIZON = 0.448
RATIO_TOLERANCE = 0.01  # by which the sides of a whole sphere may differ from 2 : 1

Fit = Literal["centre", "squeeze"]


@dataclass(frozen=True)
class Shot:
    """One picture of a source: position in degrees of EPSG:4326, month ``YYYY-MM`` or empty.

    ``heading_deg`` is that of the middle column, clockwise from north; NaN where unknown. ``taken`` orders the pictures
    of one month. ``source`` says where the picture is: a path or a URL.
    """

    shot_id: str
    lat: float
    lon: float
    month: str
    heading_deg: float
    sphere: bool
    licence: str
    attribution: str
    source: str
    sequence: str = ""
    taken: str = ""
    place: str = ""  # the collection's own name of the place, where it has one
    split: str = ""  # train, validation or test, where the collection says so
    role: str = ""  # database or queries, where the collection says so

    @property
    def panorama(self) -> Panorama:
        return Panorama(self.shot_id, self.lat, self.lon, self.month, self.licence, self.attribution, self.split)


def is_position(lat: float, lon: float) -> bool:
    """Whether these are degrees of a position. Devices without a fix write 0, 0, in the Gulf of Guinea.

    >>> is_position(59.3, 18.1), is_position(0.0, 0.0), is_position(59.3, math.nan), is_position(91.0, 0.0)
    (True, False, False, False)
    """
    return abs(lat) <= 90 and abs(lon) <= 180 and (lat, lon) != (0.0, 0.0)


def compass(angle_deg: float) -> float:
    """An angle of a device as a compass heading in [0, 360), degrees; NaN where it makes no sense.

    >>> compass(-90.0), compass(-1e-20), compass(4000.0)
    (270.0, 0.0, nan)
    """
    return angle_deg % 360.0 % 360.0 if abs(angle_deg) <= 720 else math.nan  # twice: a tiny negative one gives 360


def greedy_places(xy: NDArray[np.float64], radius_m: float) -> NDArray[np.int64]:
    """The place of each point of ``xy`` (n, 2; metres): the row of the first point of the place.

    In row order, a point that belongs to no place yet begins one, and takes all points within ``radius_m`` with it that
    belong to none.

    >>> greedy_places(np.array([[0.0, 0.0], [20.0, 0.0], [30.0, 0.0], [31.0, 0.0]]), 25.0).tolist()
    [0, 0, 2, 2]
    """
    place = np.full(len(xy), -1, np.int64)
    if not len(xy):
        return place
    tree = cKDTree(xy)
    for row in range(len(xy)):
        if place[row] < 0:
            near = np.asarray(tree.query_ball_point(xy[row], radius_m), np.int64)
            place[near[place[near] < 0]] = row
    return place


def direction_of(heading_deg: float, headings: Sequence[float], tolerance_deg: float) -> int | None:
    """The direction (its number among ``headings``) that a picture of this heading shows; None if it shows none.

    >>> direction_of(350.0, [0.0, 90.0, 180.0, 270.0], 30.0), direction_of(45.0, [0.0, 90.0], 30.0)
    (0, None)
    """
    turns = [abs((heading_deg - heading + 180.0) % 360.0 - 180.0) for heading in headings]
    best = int(np.argmin(turns))
    return best if turns[best] <= tolerance_deg else None


def requests_of(
    shot: Shot, place: int, split: str, subset: str, date_index: int, dense: bool, headings: Sequence[float],
    tolerance_deg: float = 180.0,
) -> Iterator[CaptureRequest]:  # fmt: skip
    """The pictures to make of one shot: of a sphere a frame for each direction, or the whole one where ``dense``.

    A flat picture makes one, if its heading is within ``tolerance_deg`` of a direction. One of unknown heading counts
    as direction 0 with heading NaN. Its field of view and horizon are NaN: no other view can be cut from it.
    """

    def request(direction: int, heading: float, source: str, **shows: float) -> CaptureRequest:
        kind = Projection.EQUIRECTANGULAR if shot.sphere and dense else Projection.PERSPECTIVE
        return CaptureRequest(
            place, direction, heading, date_index, shot.panorama, split, subset, source, projection=kind, **shows
        )

    known = not math.isnan(shot.heading_deg)
    if shot.sphere and dense:
        yield request(0, shot.heading_deg, shot.source, fov_deg=360.0, horizon=0.5)
    elif shot.sphere:
        for direction, heading in enumerate(headings):
            name = shot.source if known else f"{shot.source} direction {direction}"
            yield request(direction, heading if known else math.nan, name, fov_deg=FRAME_FOV_DEG, horizon=FRAME_HORIZON)
    else:
        shown = direction_of(shot.heading_deg, headings, tolerance_deg) if known else 0
        if shown is not None:
            yield request(shown, shot.heading_deg, shot.source)


def by_date(shots: Iterable[Shot]) -> list[list[Shot]]:
    """The shots of a place by month, newest first; those of unknown month last.

    >>> dates = by_date([example("a", "2019-04"), example("b", ""), example("c", "2021-05")])
    >>> [[shot.month for shot in date] for date in dates]
    [['2021-05'], ['2019-04'], ['']]
    """
    months: dict[str, list[Shot]] = {}
    for shot in shots:
        months.setdefault(shot.month, []).append(shot)
    return [months[month] for month in sorted(months, reverse=True)]


def best_of_a_date(
    shots: Sequence[Shot], distance_m: Sequence[float], headings: Sequence[float], tolerance_deg: float
) -> list[Shot]:
    """The shots that serve a place on one date: the nearest sphere, or else the nearest flat picture each way."""
    order = sorted(range(len(shots)), key=lambda i: (distance_m[i], shots[i].shot_id))
    for i in order:
        if shots[i].sphere:
            return [shots[i]]
    chosen: dict[int, Shot] = {}
    for i in order:
        known = not math.isnan(shots[i].heading_deg)
        direction = direction_of(shots[i].heading_deg, headings, tolerance_deg) if known else 0
        if direction is not None:
            chosen.setdefault(direction, shots[i])
    return list(chosen.values())


def wanted_dates(dates: Sequence[list[Shot]], split: str, gallery_dates: int) -> list[tuple[int, list[Shot]]]:
    """The dates of a place that are captured, with their index (see `streetrecall.providers.base.dates_wanted`)."""
    return list(enumerate(dates))[dates_wanted(split, gallery_dates)]


def picture_of(data: bytes, shot: Shot, request: CaptureRequest, params: Params, fit: Fit = "centre") -> bytes:
    """The encoded picture that ``request`` asks for, made from the picture ``data`` of ``shot``.

    - A whole sphere stays as it came.
    - A frame is cut from a sphere, with the size of the viewer's frames (``scrape.width`` x ``scrape.height``).
    - A flat picture becomes a square of at most 640 pixels. A square JPEG of 224 or 640 pixels stays as it came.

    Raises:
        NotAPictureError: the bytes are no picture, or not one of a whole sphere.
    """
    found = read_structure(data)
    if shot.sphere and abs(found.width - 2 * found.height) > RATIO_TOLERANCE * found.width:
        raise NotAPictureError(f"not a whole sphere: it is {found.width} x {found.height}, not twice as wide as high")
    if request.projection == Projection.EQUIRECTANGULAR:
        if found.width == 2 * found.height:
            return data
        upright = decode(found).convert("RGB").resize((found.width, found.width // 2), Image.Resampling.BICUBIC)
        return encode_jpeg(np.asarray(upright), params.scrape.quality)
    if shot.sphere:
        known = not math.isnan(request.heading_deg)
        heading = request.heading_deg if known else params.scrape.headings_deg[request.direction]
        return _frame(_sphere(data, shot.heading_deg if known else 0.0), heading, params)
    kept = (params.crop.size, FLAT_SIDE)
    if found.format == "JPEG" and found.orientation == 1 and found.width == found.height and found.width in kept:
        return data
    side = max(params.crop.size, min(FLAT_SIDE, found.width, found.height))
    picture = decode(found).convert("RGB")
    if fit == "centre":
        edge = min(picture.size)
        left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
        picture = picture.crop((left, top, left + edge, top + edge))
    encoded = io.BytesIO()
    picture.resize((side, side), Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=params.scrape.quality)
    return encoded.getvalue()


def _frame(sphere: Sphere, heading_deg: float, params: Params) -> bytes:
    """A frame of the viewer's size. Views have the horizon in their middle: a taller one is cut, without its top."""
    width, height = params.scrape.width, params.scrape.height
    above = max(0, round(height * (1 - 2 * FRAME_HORIZON)))
    view = View(heading_deg, FRAME_FOV_DEG, width, height + above)
    picture = sphere.cut(view, 1) if sphere.is_coarser(view) else sphere.cut(view)
    return encode_jpeg(np.ascontiguousarray(picture[above:]), params.scrape.quality)


@lru_cache(maxsize=16)
def _sphere(data: bytes, heading_deg: float) -> Sphere:
    """The decoded sphere of a picture. The frames of one panorama are cut one after the other."""
    picture = decode(read_structure(data)).convert("RGB")
    if picture.width != 2 * picture.height:
        picture = picture.resize((picture.width, picture.width // 2), Image.Resampling.BICUBIC)
    return Sphere(np.asarray(picture), heading_deg)


def example(shot_id: str, month: str = "2020-05", **change: object) -> Shot:
    """A shot for examples in documentation.

    >>> example("a").panorama.pano_id
    'a'
    """
    values: dict[str, object] = {
        "shot_id": shot_id, "lat": 59.3, "lon": 18.1, "month": month, "heading_deg": math.nan, "sphere": False,
        "licence": "CC0-1.0", "attribution": "nobody", "source": f"{shot_id}.jpg",
    }  # fmt: skip
    return Shot(**(values | change))  # type: ignore[arg-type]
