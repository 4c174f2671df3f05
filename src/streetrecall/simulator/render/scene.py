"""What surrounds one panorama: light and weather, sunlight on the ground, trees, lamps, people and cars."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from streetrecall.simulator.city.buildings import SIGNS
from streetrecall.simulator.city.chance import Stream, hash_unit
from streetrecall.simulator.city.panoramas import Pano
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.city.weather import Weather, weather
from streetrecall.simulator.render import tables, textures
from streetrecall.simulator.render.kernels import compiled
from streetrecall.simulator.render.tables import (
    CAR,
    SHADE_CELLS,
    SPRITE,
    Buildings,
    CityTables,
    Environment,
    Floats,
    Floats32,
    Records,
    Scene,
)

# How far things are drawn, metres.
TREES_M, LAMPS_M, PEOPLE_M, CARS_M = 120.0, 90.0, 55.0, 80.0

# By hue: fresh green, deep green, yellow, brown.
_LEAVES = np.array([[0.42, 0.52, 0.20], [0.25, 0.35, 0.14], [0.64, 0.53, 0.16], [0.47, 0.32, 0.16]])
_SIGNS = ((0.94, 0.83, 0.2), (0.9, 0.75, 0.1), (0.12, 0.3, 0.62))
_PAINTS = np.array(
    [[0.85, 0.85, 0.85], [0.62, 0.63, 0.65], [0.1, 0.1, 0.11], [0.32, 0.33, 0.35], [0.5, 0.08, 0.07],
     [0.1, 0.17, 0.34], [0.2, 0.26, 0.2], [0.72, 0.68, 0.6], [0.07, 0.08, 0.12]]
)  # fmt: skip

Row = tuple[float, ...]


def scene_of(city: City, city_tables: CityTables, buildings: Buildings, pano: Pano) -> Scene:
    """The surroundings of a panorama; ``buildings`` as they are in its month."""
    sky = weather(city.seed, city.streets[pano.street].line, pano.month)
    environment = environment_of(sky)
    trees = city.trees[_within(city.trees, pano, TREES_M)]
    sprites = tree_sprites(trees, pano, sky) + _lamp_sprites(city, pano) + _people_sprites(city, pano)
    return Scene(
        buildings, _shade(city_tables, environment, trees, pano), np.array(sprites, SPRITE), _cars(city, pano),
        environment,
    )  # fmt: skip


def environment_of(sky: Weather) -> Environment:
    """Light and weather as the ray caster takes them."""
    azimuth, up = math.radians(sky.sun_azimuth), math.radians(sky.sun_elevation)
    return Environment(
        sun_x=math.sin(azimuth) * math.cos(up),
        sun_y=math.cos(azimuth) * math.cos(up),
        sun_z=math.sin(up),
        direct=sky.direct * 0.58,
        ambient=0.92 - 0.35 * sky.direct,
        cloud=float(sky.cloud),
        snow=float(sky.snow),
        wet=float(sky.wet),
        haze=float(sky.haze),
        leaves=float(sky.leaves),
        warm=float(sky.warmth),
        exposure=float(sky.exposure),
        sky_x=float(sky.key % 509),
        sky_y=float(sky.key // 509 % 511),
    )


def _within(things: Floats, pano: Pano, reach: float) -> NDArray[np.bool_]:
    """Which rows of a table, whose first two columns are x and y, are within ``reach`` metres of the camera."""
    return np.hypot(things[:, 0] - pano.x, things[:, 1] - pano.y) < reach


def _shade(city_tables: CityTables, environment: Environment, trees: Floats, pano: Pano) -> Floats32:
    """Share of direct sunlight on the ground around the camera (SHADE_CELLS, SHADE_CELLS), 0-1."""
    shade = np.ones((SHADE_CELLS, SHADE_CELLS), np.float32)
    if environment.direct <= 0:
        return shade
    x, y, z = environment[:3]
    flat = max(math.hypot(x, y), 1e-9)
    sun = (x / flat, y / flat, max(0.08, z / flat))
    compiled.fill_shade(shade, pano.x, pano.y, sun, city_tables, np.ascontiguousarray(trees), environment.leaves)
    return np.asarray(cv2.GaussianBlur(shade, (3, 3), 0.7))


def tree_sprites(trees: Floats, pano: Pano, sky: Weather) -> list[Row]:
    """Rows of SPRITE for some trees: trunk, branches and leaves, by season. Trees grow by 2.2% a year until 2024."""
    rows: list[Row] = []
    grown = 1.0 - 0.022 * max(0.0, 2024 - pano.month / 12)
    for x, y, radius, height, kind, key in trees:
        r, top = radius * grown, height * grown
        if math.hypot(x - pano.x, y - pano.y) < r * 0.75:
            continue  # the camera would be inside the crown
        hue = min(2.999, max(0.0, sky.leaf_hue + (key - 0.5) * 0.5))
        a, b = _LEAVES[int(hue)], _LEAVES[int(hue) + 1]
        colour = (a + (b - a) * (hue % 1)) * (0.85 + 0.3 * key)
        base = 1.9 + 0.6 * key
        bark = (0.34, 0.29, 0.24) if key < 0.8 else (0.62, 0.60, 0.56)
        if sky.leaves < 0.9:
            rows.append((x, y, base * 0.8, r, top, tables.BARE, kind, *(0.9 * c for c in bark), 0.0))
        rows.append((x, y, 0.0, 0.1 + 0.035 * r, base + 1.2, tables.TRUNK, kind, *bark, 0.0))
        if sky.leaves > 0.05:
            s = 0.55 + 0.45 * sky.leaves
            rows.append((x, y, base, r * s, base + (top - base) * s, tables.LEAFY, kind, *colour, 0.0))
    return rows


def _lamp_sprites(city: City, pano: Pano) -> list[Row]:
    rows: list[Row] = []
    for x, y, height, kind, key in city.lamps[_within(city.lamps, pano, LAMPS_M)]:
        grey = 0.3 + 0.25 * key
        sign = kind == 2
        rows.append((x, y, 0.0, 0.045 if sign else 0.07, height, tables.POLE, 0, grey, grey, grey, 0.0))
        if sign:
            which = int(key * 3)
            rows.append((x, y, height - 0.6, 0.3, height, tables.SIGN, which, *_SIGNS[which], 0.0))
        else:
            rows.append((x, y, height - 0.15, 0.28, height + 0.4, tables.LAMP, 0, 0.86, 0.86, 0.82, 0.0))
    return rows


def _people_sprites(city: City, pano: Pano) -> list[Row]:
    rows: list[Row] = []
    bays = city.people_bays
    near = np.flatnonzero(_within(bays, pano, PEOPLE_M))
    there = near[hash_unit(city.seed, Stream.PEOPLE, near, pano.month) < city.params.people_share]
    dice = np.array([hash_unit(city.seed, Stream.CLOTHES, there, pano.month, k) for k in range(5)]).T
    for (x, y), h in zip(bays[there, :2], dice, strict=True):
        if math.hypot(x - pano.x, y - pano.y) < 1.5:
            continue
        coat = SIGNS[int(h[0] * 12)] * (0.3 + 0.5 * h[1]) + 0.08
        height = 1.58 + 0.3 * h[2]
        which = int(h[3] * textures.PEOPLE)
        rows.append((x, y, 0.12, height / 4 * 1.0, height, tables.PERSON, which, *coat, 0.08 + 0.2 * h[4]))
    return rows


def _cars(city: City, pano: Pano) -> Records:
    """Parked cars; a street may be full in one month and empty in another."""
    bays = city.car_bays
    near = np.flatnonzero(_within(bays, pano, CARS_M))
    month = np.full(len(near), pano.month)
    share = city.params.parked_share + 0.35 * (hash_unit(city.seed, Stream.PARKED_SHARE, bays[near, 3], month) - 0.5)
    near = near[hash_unit(city.seed, Stream.PARKED, near, month) < share]
    dice = np.array([hash_unit(city.seed, Stream.CARS, near, pano.month, k) for k in range(5)]).T
    rows: list[Row] = []
    for (x, y, along), h in zip(bays[near, :3], dice, strict=True):
        if math.hypot(x - pano.x, y - pano.y) < 2.9:
            continue  # the camera would be inside the car
        angle = along + (h[0] - 0.5) * 0.06 + (math.pi if h[1] < 0.5 else 0.0)
        kind = tables.VAN if h[2] < 0.14 else tables.ESTATE if h[2] < 0.62 else tables.SALOON
        half_length, half_width = (2.5, 0.95) if kind == tables.VAN else (1.95 + 0.4 * h[3], 0.86)
        paint = _PAINTS[int(h[4] * 9)]
        rows.append((x, y, math.cos(angle), math.sin(angle), half_length, half_width, kind, *paint))
    return np.array(rows, CAR)
