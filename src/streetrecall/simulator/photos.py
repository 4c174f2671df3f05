"""Photos of the simulated city as people take them, with their true positions.

A photo is taken anywhere on a street, in any direction, with a lens of 50 to 80 degrees, upright or lying, from eye
height. It is tilted and rolled a little, has a phone's tone and sharpening, and people and cars are in the way.

Positions are metres from the city's origin; x is east, y is north. Months are counted since year 0.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streetrecall.parallel import available_cores
from streetrecall.params.schema import Photos
from streetrecall.pictures import tone
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.pictures.handheld import FOV_DEG, PITCH_DEG, ROLL_DEG
from streetrecall.pictures.projections import View
from streetrecall.simulator.city.buildings import SIGNS
from streetrecall.simulator.city.kinds import QUAY
from streetrecall.simulator.city.panoramas import Pano
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.render import tables, textures
from streetrecall.simulator.render.renderer import Renderer, renderer
from streetrecall.simulator.render.tables import Scene
from streetrecall.store.results import Results
from streetrecall.tables import PHOTOS_OF_A_SPOT, RIGHT_M, SAME_MONTH_M

log = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

NEAR_M = float(RIGHT_M)  # a gallery panorama so near is a right answer
FACADE_M = 0.8  # from the walls to where people walk
MONTHS = np.arange(2, 11)  # of the year, from 0: March to November
HEIGHT_M = 1.5, 1.7
_BATCH = 256  # points that are drawn at a time
_BATCHES_A_SPOT = 20  # at most, on average
_TRIES = 40  # directions that are drawn until a spot has all its photos
_EVEN_TRIES = 20  # of them, those that look all around; the others look anywhere
_FAR_M = 200.0  # of a wall that is farther away, or of none


class Gallery(NamedTuple):
    """What may answer: a row for each panorama."""

    xy: Floats  # (n, 2)
    month: NDArray[np.int64]  # (n,)
    split: NDArray[np.str_]  # (n,)

    def of(self, rows: NDArray[np.bool_]) -> Gallery:
        return Gallery(self.xy[rows], self.month[rows], self.split[rows])


@dataclass(frozen=True)
class Pose:
    """Where, when and how a photo was taken. ``seed`` is of its tone and of what is in the way."""

    spot: int
    split: str
    street: int
    x: float
    y: float
    month: int
    heading_deg: float
    fov_deg: float  # of the longer side
    portrait: bool
    height_m: float
    pitch_deg: float
    roll_deg: float
    seed: int


def take_photos(city: City, gallery: Gallery, settings: Photos, known: Results) -> Iterator[tuple[Pose, bytes]]:
    """The photos (JPEG) by spot. They are rendered on all cores; the bytes do not depend on the number of cores.

    Photos that are ``known``, those of the same city and the same ``settings.long_side``, are not rendered again.
    """
    poses = draw_poses(city, gallery, settings)
    keys = [json.dumps(astuple(replace(pose, spot=0, split=""))) for pose in poses]
    photos = known.read(keys)
    new = [i for i, key in enumerate(keys) if key not in photos]
    new.sort(key=lambda i: poses[i].month)  # the renderer keeps some months' buildings
    if new:
        artist = renderer(city)
        with ThreadPoolExecutor(available_cores()) as pool:
            rendered = pool.map(lambda i: render_photo(artist, poses[i], settings.long_side), new)
            made = {keys[i]: photo for i, photo in zip(new, rendered, strict=True)}
        known.write(made)
        photos |= made
    for key, pose in zip(keys, poses, strict=True):
        yield pose, photos[key]


# Where photos are taken ----------------------------------------------------------------------------------------------


def draw_poses(city: City, gallery: Gallery, settings: Photos) -> list[Pose]:
    """Three photos of each spot: spots near places of validation, then of test, then those far from all panoramas.

    Spots are spread evenly over the ground of the streets, those that no camera car drove included. Spots near a place
    of validation or test keep away from places that are trained on or belong to the other of the two. They do not
    depend on places of split gallery. More spots of the same seed hold the fewer ones.
    """
    poses: list[Pose] = []
    far = round(settings.spots * settings.far_share)
    spot = 0
    for number, (split, near, count) in enumerate(
        [("validation", True, settings.spots), ("test", True, settings.spots), ("validation", False, far),
         ("test", False, far)]
    ):  # fmt: skip
        found = 0
        rng = np.random.default_rng([settings.seed, number])
        dated = gallery.of(gallery.split != "gallery") if near else gallery  # whose months a photo must not have
        for street, x, y in _points(city, gallery, split, near, count, rng):
            photos = _draw_spot(city, dated, settings, (spot, split, street, x, y), rng)
            if photos:
                poses += photos
                found, spot = found + 1, spot + 1
            if found == count:
                break
        if found < count:
            log.warning("%s: only %d of %d %s spots were found", split, found, count, "near" if near else "far")
    return poses


def _points(
    city: City, gallery: Gallery, split: str, near: bool, count: int, rng: np.random.Generator
) -> Iterator[tuple[int, float, float]]:
    """Street, x and y of random points of the streets that may be spots."""
    own = gallery.xy[gallery.split == split]
    others = gallery.xy[(gallery.split != split) & (gallery.split != "gallery")]
    if not count or not len(gallery.xy) or (near and not len(own)):
        return
    streets = [s for s in city.streets if s.index not in city.street_grid.swallowed and s.width > 2 * FACADE_M]
    area = np.array([s.length * (s.width - 2 * FACADE_M) for s in streets])
    lines = np.array([(s.x0, s.y0, s.x1, s.y1, s.width / 2 - FACADE_M) for s in streets])
    to_own, to_others, to_all = (cKDTree(xy) if len(xy) else None for xy in (own, others, gallery.xy))
    for _ in range(count * _BATCHES_A_SPOT):
        chosen = rng.choice(len(streets), _BATCH, p=area / area.sum())
        start, end, reach = lines[chosen, :2], lines[chosen, 2:4], lines[chosen, 4:]
        along = end - start
        across = np.column_stack([-along[:, 1], along[:, 0]]) / np.hypot(along[:, :1], along[:, 1:])
        xy = start + along * rng.uniform(0, 1, (_BATCH, 1)) + across * reach * rng.uniform(-1, 1, (_BATCH, 1))
        if near:
            fits = _within(to_own, xy) & ~_within(to_others, xy)
        else:
            fits = ~_within(to_all, xy) & shapely.contains_xy(city.polygon, *xy.T)
        for i in np.flatnonzero(fits):
            yield streets[int(chosen[i])].index, float(xy[i, 0]), float(xy[i, 1])


def _within(tree: cKDTree | None, xy: Floats) -> NDArray[np.bool_]:
    """Which of the points (n, 2) are within NEAR_M of any point of the tree."""
    if tree is None:
        return np.zeros(len(xy), bool)
    return np.asarray(tree.query(xy)[0] <= NEAR_M)


def _draw_spot(
    city: City,
    gallery: Gallery,
    settings: Photos,
    where: tuple[int, str, int, float, float],
    rng: np.random.Generator,
) -> list[Pose]:
    """The photos of one spot: number, split, street, x and y. None if too few directions or no month will do.

    The month is of the newest year, and no gallery panorama within SAME_MONTH_M is of that month.
    """
    *_, x, y = where
    close = np.hypot(gallery.xy[:, 0] - x, gallery.xy[:, 1] - y) <= SAME_MONTH_M
    months = np.setdiff1d(city.params.years[1] * 12 + MONTHS, gallery.month[close])
    if not len(months):
        return []
    month = int(rng.choice(months))
    first = rng.uniform(0, 360)
    poses: list[Pose] = []
    for k in range(_TRIES):
        even = first + len(poses) * 360.0 / PHOTOS_OF_A_SPOT + rng.uniform(-30, 30)
        heading = even % 360 if k < _EVEN_TRIES else rng.uniform(0, 360)
        fov, portrait = float(rng.uniform(*FOV_DEG)), bool(rng.random() < 0.5)
        width = 2 * math.degrees(math.atan(0.75 * math.tan(math.radians(fov) / 2))) if portrait else fov
        if view_distance(city, x, y, heading, width) < settings.see_m:
            continue
        poses.append(
            Pose(
                *where, month, float(heading), fov, portrait, float(rng.uniform(*HEIGHT_M)),
                float(rng.uniform(*PITCH_DEG)), float(rng.uniform(*ROLL_DEG)), int(rng.integers(2**31)),
            )
        )  # fmt: skip
        if len(poses) == PHOTOS_OF_A_SPOT:
            return poses
    return []


def view_distance(city: City, x: float, y: float, heading_deg: float, width_deg: float, rays: int = 9) -> float:
    """Distance to the first house or hedge, metres: the median over ``rays`` directions across a view, 200 at most.

    A photo with a bare wall two metres before the lens shows no place.
    """
    walls = city.walls
    high = walls.kind != QUAY
    ax, ay = walls.x0[high] - x, walls.y0[high] - y
    ex, ey = walls.x1[high] - walls.x0[high], walls.y1[high] - walls.y0[high]
    found = []
    for turn in np.linspace(-0.45, 0.45, rays) * width_deg:
        angle = math.radians(heading_deg + turn)
        dx, dy = math.sin(angle), math.cos(angle)
        cross = dx * ey - dy * ex
        cross = np.where(np.abs(cross) < 1e-12, 1e-12, cross)
        along, share = (ax * ey - ay * ex) / cross, (ax * dy - ay * dx) / cross
        hit = along[(along > 0.05) & (share >= 0) & (share <= 1)]
        found.append(min(float(hit.min()), _FAR_M) if len(hit) else _FAR_M)
    return float(np.median(found))


# What a photo shows --------------------------------------------------------------------------------------------------


def render_photo(artist: Renderer, pose: Pose, long_side: int) -> bytes:
    """The photo as JPEG, ``long_side`` pixels on its longer side and three quarters of that on the other."""
    rng = np.random.default_rng(pose.seed)
    pano = _as_panorama(pose)
    scene = with_obstacles(artist.city, artist.scene(pano), pose, rng)
    picture = project_photo(artist, pano, scene, pose, long_side)
    return encode_jpeg(tone.phone(picture, rng), tone.jpeg_quality(rng))


def _as_panorama(pose: Pose) -> Pano:
    """A panorama at the photographer's eye, for the renderer."""
    return Pano(
        pano_id=f"photo-{pose.seed}", spot=-1, street=pose.street, month=pose.month, x=pose.x, y=pose.y,
        camera_height=pose.height_m, heading=0.0, yaw_error=0.0, pitch_error=0.0, dated=True, shown="", dark=False,
    )  # fmt: skip


def project_photo(artist: Renderer, pano: Pano, scene: Scene, pose: Pose, long_side: int) -> Bytes:
    """The photo (height, width, 3) without a phone's tone.

    The renderer draws upright pictures. So it draws one that holds the photo, a little finer, and the photo is its
    exact projection onto the tilted plane: two pinhole pictures of one centre differ by a homography.
    """
    short = long_side * 3 // 4
    width, height = (short, long_side) if pose.portrait else (long_side, short)
    rays = View(pose.heading_deg, pose.fov_deg, width, height, pose.pitch_deg, pose.roll_deg).rays()
    corners = rays @ np.array([[x, y, 1] for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)]).T
    right, down = corners[:2] / corners[2]
    half, top, bottom = float(np.abs(right).max()) + 0.02, float(-down.min()) + 0.02, float(down.max()) + 0.02
    focal = 1.15 * long_side / 2 / math.tan(math.radians(pose.fov_deg) / 2)
    w, h = math.ceil(2 * half * focal), math.ceil((top + bottom) * focal)
    fov = 2 * math.degrees(math.atan(w / 2 / focal))
    upright = artist.view(pano, pose.heading_deg, w, h, fov, horizon=top * focal / h, scene=scene)
    camera = np.array([[focal, 0, w / 2 - 0.5], [0, focal, top * focal - 0.5], [0, 0, 1]])
    photo = cv2.warpPerspective(
        upright, camera @ rays, (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(photo, np.uint8)


def with_obstacles(city: City, scene: Scene, pose: Pose, rng: np.random.Generator) -> Scene:
    """The scene with up to three more people 2.5 to 12 m before the lens, and at times a car that passes."""
    people, cars = [], []
    for _ in range(int(rng.integers(0, 4))):
        x, y = _before_the_lens(pose, rng.uniform(2.5, 12), rng.uniform(-0.45, 0.45))
        coat = SIGNS[int(rng.integers(12))] * rng.uniform(0.3, 0.8) + 0.08
        tall = rng.uniform(1.55, 1.88)
        which = int(rng.integers(textures.PEOPLE))
        people.append((x, y, 0.05, tall / 4, tall, tables.PERSON, which, *coat, rng.uniform(0.08, 0.28)))
    if rng.random() < 0.3:
        x, y = _before_the_lens(pose, rng.uniform(6, 14), rng.uniform(-0.4, 0.4))
        street = city.streets[pose.street]
        angle = math.atan2(street.y1 - street.y0, street.x1 - street.x0)
        grey = rng.uniform(0.1, 0.85)
        kind = int(rng.integers(3))
        cars.append((x, y, math.cos(angle), math.sin(angle), 2.1, 0.86, kind, grey, grey, grey))
    return scene._replace(
        sprites=np.concatenate([scene.sprites, np.array(people, tables.SPRITE)]),
        cars=np.concatenate([scene.cars, np.array(cars, tables.CAR)]),
    )


def _before_the_lens(pose: Pose, distance_m: float, share: float) -> tuple[float, float]:
    """The point at a distance from the camera; ``share`` of the field of view to the right of the middle."""
    bearing = math.radians(pose.heading_deg + share * pose.fov_deg)
    return pose.x + distance_m * math.sin(bearing), pose.y + distance_m * math.cos(bearing)
