"""What is in the streets and parks: trees, lamps, and the spots where cars are parked and people stand.

Positions are metres from the city's origin; x is east, y is north. A key is a random number in [0, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Point, Polygon
from shapely.geometry.base import BaseGeometry

from streetrecall.simulator.city.blocks import Blocks, Walls
from streetrecall.simulator.city.chance import Stream, generator
from streetrecall.simulator.city.kinds import FACADE, PARK, SLABS, SQUARE, TREES
from streetrecall.simulator.city.streets import Street, StreetGrid, pavement

Floats = NDArray[np.float64]
Row = tuple[float, ...]

M2_PER_TREE = {PARK: 70.0, SLABS: 190.0, SQUARE: 95.0}
CAR_BAY_M = 6.0


class Furniture(NamedTuple):
    """Tables, one row a thing; all but the columns named kind, street and key are metres."""

    trees: Floats  # x, y, radius of the crown, height, kind, key
    lamps: Floats  # x, y, height, kind, key
    car_bays: Floats  # x, y, direction (radians anticlockwise from east), street, key
    people_bays: Floats  # x, y, 0, street, key


@dataclass
class _Tables:
    trees: list[Row] = field(default_factory=list)
    lamps: list[Row] = field(default_factory=list)
    car_bays: list[Row] = field(default_factory=list)
    people_bays: list[Row] = field(default_factory=list)


def furnish(seed: int, grid: StreetGrid, blocks: Blocks) -> Furniture:
    """Place trees, lamps, parking bays and people's spots."""
    rng = generator(seed, Stream.FURNITURE)
    tables = _Tables()
    for inner, kind in blocks.shapes:
        if kind in M2_PER_TREE:
            _plant_block(tables, inner, kind, blocks.walls, rng)
    for street in grid.streets:
        if street.index not in grid.swallowed:
            _furnish_street(tables, street, rng)
    return Furniture(
        np.array(tables.trees).reshape(-1, 6),
        np.array(tables.lamps).reshape(-1, 5),
        np.array(tables.car_bays).reshape(-1, 5),
        np.array(tables.people_bays).reshape(-1, 5),
    )


def _plant_block(tables: _Tables, inner: Floats, kind: int, walls: Walls, rng: np.random.Generator) -> None:
    """Trees of a block, away from its edges and its houses."""
    area = Polygon(inner)
    free = area.buffer(-2.0)
    built = None if kind == PARK else _built_within(inner, walls).buffer(3.0)
    for _ in range(round(area.area / M2_PER_TREE[kind])):
        x, y = rng.uniform(inner.min(axis=0), inner.max(axis=0))
        spot = Point(x, y)
        if free.contains(spot) and (built is None or not built.contains(spot)):
            size = rng.uniform(0.6, 1.25) * (1.25 if kind == PARK else 1.0)
            tables.trees.append((x, y, 3.2 * size, 9.5 * size, float(rng.integers(0, TREES)), rng.random()))


def _built_within(inner: Floats, walls: Walls) -> BaseGeometry:
    """Outline of the houses of a block."""
    low, high = inner.min(axis=0) - 1, inner.max(axis=0) + 1
    x, y = walls.x0, walls.y0
    near = (walls.kind == FACADE) & (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])
    corners = np.stack([np.column_stack([x, y]), np.column_stack([walls.x1, walls.y1])], axis=1)[near]
    building = walls.building[near]
    return shapely.union_all(
        [shapely.MultiPoint(corners[building == b].reshape(-1, 2)).convex_hull for b in np.unique(building)]
    )


def _furnish_street(tables: _Tables, street: Street, rng: np.random.Generator) -> None:
    length, width, walk = street.length, street.width, pavement(street.width)
    origin = np.array([street.x0, street.y0])
    along = np.array([street.x1 - street.x0, street.y1 - street.y0]) / max(length, 1e-6)
    across = np.array([-along[1], along[0]])
    avenue = width >= 17 and rng.random() < 0.7
    one_sided = rng.random() < 0.4
    phase = rng.uniform(0, 9)
    for side in (-1, 1):
        if avenue and not (one_sided and side == 1):
            at = width / 2 + phase
            while at < length - width / 2:
                x, y = origin + along * at + across * side * (width / 2 - walk + 0.9)
                size = rng.uniform(0.55, 1.0)
                if rng.random() > 0.15:
                    tables.trees.append((x, y, 2.7 * size, 8.5 * size, float(rng.integers(0, TREES)), rng.random()))
                at += rng.uniform(8, 12)
        if width >= 12 or side == 1:
            at = width / 2 + 2
            while at < length - width / 2 - 2:
                x, y = origin + along * at + across * side * (width / 2 - walk - 1.0)
                tables.car_bays.append((x, y, math.atan2(along[1], along[0]), street.index, rng.random()))
                at += CAR_BAY_M
        for _ in range(int(length / 9)):
            x, y = origin + along * rng.uniform(2, length - 2) + across * side * (
                width / 2 - rng.uniform(0.5, walk - 0.3)
            )  # fmt: skip
            tables.people_bays.append((x, y, 0.0, street.index, rng.random()))
    at = width / 2 + rng.uniform(2, 14)
    kind = int(rng.integers(0, 3))  # 0: lamps on both sides in turn, 1: on one side, 2: traffic signs
    while at < length - width / 2:
        side = rng.choice([-1, 1]) if kind == 0 else 1
        x, y = origin + along * at + across * side * (width / 2 - walk + 0.4)
        tables.lamps.append((x, y, 2.6 if kind == 2 else 6.5, kind, rng.random()))
        at += rng.uniform(18, 30)
