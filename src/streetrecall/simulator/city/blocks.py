"""The blocks: houses, hedges and quays as walls that stand upright on the ground.

Positions are metres from the city's origin; x is east, y is north.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon

from streetrecall.params.schema import Simulated
from streetrecall.simulator.city.buildings import Buildings, Plot
from streetrecall.simulator.city.chance import Stream, generator
from streetrecall.simulator.city.kinds import FACADE, HEDGE, PARK, PARTY, PERIMETER, QUAY, SLABS, SQUARE, WATER
from streetrecall.simulator.city.streets import StreetGrid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PARTY_WALL_M = 11.0  # depth of a house in a closed block
SETBACK_M = 2.2  # from the facade to the ridge of its roof
QUAY_M = 0.45  # height


class Walls(NamedTuple):
    """All walls: equally long columns, metres."""

    x0: Floats
    y0: Floats
    x1: Floats
    y1: Floats
    eaves: Floats  # height of the upright part
    roof: Floats  # height of the ridge
    setback: Floats  # of the ridge behind the wall
    kind: Ints
    building: Ints  # row of the tables of buildings, or -1
    length: Floats


class Blocks(NamedTuple):
    """What is built."""

    walls: Walls
    buildings: Buildings
    shapes: list[tuple[Floats, int]]  # outline (4, 2) within the streets, and kind, of each block


@dataclass
class _Builder:
    """Collects walls and the plots of buildings."""

    params: Simulated
    rows: list[tuple[float, ...]] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)

    def wall(self, a: Floats, b: Floats, kind: int, building: int = -1, height: float = 0.0) -> None:
        """A wall from a to b. Facades and party walls get their heights from their building."""
        self.rows.append((a[0], a[1], b[0], b[1], height, height, 0.0, kind, building, math.dist(a, b)))

    def building(self, plot: Plot) -> int:
        self.plots.append(plot)
        return len(self.plots) - 1

    def free_standing(self, corners: list[Floats], plot: Plot) -> None:
        """A building with four facades."""
        building = self.building(plot)
        for a, b in _edges(corners):
            self.wall(a, b, FACADE, building)

    def finish(self, seed: int) -> tuple[Walls, Buildings]:
        table = np.array(self.rows, dtype=np.float64).reshape(-1, 10)
        x0, y0, x1, y1, eaves, roof, setback, kind, building, length = map(np.ascontiguousarray, table.T)
        numbers = (kind.astype(np.int64), building.astype(np.int64))
        walls = Walls(x0, y0, x1, y1, eaves, roof, setback, *numbers, length)
        buildings = Buildings.draw(seed, self.plots, self.params)
        built = walls.building >= 0
        walls.eaves[built] = buildings.eaves[walls.building[built]]
        walls.roof[built] = buildings.roof[walls.building[built]]
        walls.setback[walls.kind == FACADE] = SETBACK_M
        return walls, buildings


def build_blocks(params: Simulated, grid: StreetGrid) -> Blocks:
    """Build every block of the grid. A block too narrow for its streets stays empty."""
    builder = _Builder(params)
    shapes: list[tuple[Floats, int]] = []
    n, m = grid.kinds.shape
    for i in range(n):
        for j in range(m):
            kind = int(grid.kinds[i, j])
            distances = _distances(grid, i, j)
            nodes = grid.nodes
            inner = _inset(np.array([nodes[i, j], nodes[i + 1, j], nodes[i + 1, j + 1], nodes[i, j + 1]]), distances)
            if inner is None:
                continue
            shapes.append((inner, kind))
            rng = generator(params.seed, Stream.BLOCK, i, j)
            if kind == PERIMETER:
                _perimeter(builder, inner, rng)
            elif kind == SLABS:
                _slabs(builder, inner, rng)
            elif kind == SQUARE:
                _kiosk(builder, inner, grid.turn, rng)
            elif kind == PARK:
                _hedges(builder, inner, distances, rng)
            elif kind == WATER:
                for (a, b), distance in zip(_edges(inner), distances, strict=True):
                    if distance > 1.5:
                        builder.wall(a, b, QUAY, height=QUAY_M)
    return Blocks(*builder.finish(params.seed), shapes)


def _edges(corners: Floats | list[Floats]) -> list[tuple[Floats, Floats]]:
    return [(corners[k], corners[(k + 1) % len(corners)]) for k in range(len(corners))]


def _distances(grid: StreetGrid, i: int, j: int) -> list[float]:
    """How far each edge of block i, j lies from the middle of the street beside it, metres."""
    kind = int(grid.kinds[i, j])
    n, m = grid.kinds.shape
    widths = [grid.width_v[j], grid.width_u[i + 1], grid.width_v[j + 1], grid.width_u[i]]
    neighbours = [(i, j - 1), (i + 1, j), (i, j + 1), (i - 1, j)]
    distances = []
    for width, (p, q) in zip(widths, neighbours, strict=True):
        same = 0 <= p < n and 0 <= q < m and grid.kinds[p, q] == kind and kind in (PARK, WATER)
        distances.append(1.2 if same and kind == PARK else 0.0 if same else width / 2)
    return distances


def _inset(corners: Floats, distances: list[float]) -> Floats | None:
    """A convex anticlockwise polygon with edge i (corner i to i + 1) moved inwards by ``distances[i]`` metres.

    None where nothing is left of it.
    """
    lines = []
    for (a, b), distance in zip(_edges(corners), distances, strict=True):
        d = (b - a) / np.hypot(*(b - a))
        lines.append((a + np.array([-d[1], d[0]]) * distance, d))
    out = []
    for i in range(len(lines)):
        (p, d), (q, e) = lines[i - 1], lines[i]
        cross = d[0] * e[1] - d[1] * e[0]
        if abs(cross) < 1e-9:
            return None
        t = ((q[0] - p[0]) * e[1] - (q[1] - p[1]) * e[0]) / cross
        out.append(p + d * t)
    result = np.array(out)
    return result if Polygon(result).is_valid and Polygon(result).exterior.is_ccw else None


def _perimeter(builder: _Builder, inner: Floats, rng: np.random.Generator) -> None:
    """A closed block: houses wall to wall along all four streets."""
    for a, b in _edges(inner):
        length = float(np.hypot(*(b - a)))
        if length < 6:
            continue
        count = max(1, round(length / rng.uniform(14, 24)))
        ends = np.concatenate([[0.0], np.cumsum(rng.uniform(0.7, 1.3, count))])
        ends *= length / ends[-1]
        along = (b - a) / length
        inward = np.array([-along[1], along[0]])
        for q in range(count):
            # Neighbours of equal design make a street ambiguous, as where one builder built several houses.
            twin = q > 0 and rng.random() < builder.params.twin_share
            building = builder.building(
                Plot(frontage=ends[q + 1] - ends[q], twin=len(builder.plots) - 1 if twin else -1)
            )
            p, r = a + along * ends[q], a + along * ends[q + 1]
            builder.wall(p, r, FACADE, building)
            # At a corner of the block the next front closes it: a party wall there would hide that front.
            for end in ([p] if q > 0 else []) + ([r] if q + 1 < count else []):
                builder.wall(end, end + inward * PARTY_WALL_M, PARTY, building)


def _slabs(builder: _Builder, inner: Floats, rng: np.random.Generator) -> None:
    """One or two free-standing slabs of flats."""
    a, b, c, d = np.roll(inner, -int(rng.integers(0, 2)), axis=0)
    count = 2 if np.hypot(*(d - a)) > 50 else 1
    for q in range(count):
        low = (0.12 + 0.5 * q) if count == 2 else 0.3
        high = low + 0.26
        p = [a + (d - a) * low, b + (c - b) * low, b + (c - b) * high, a + (d - a) * high]
        s = rng.uniform(0.06, 0.16)
        corners = [p[k] + (p[other] - p[k]) * s for k, other in enumerate((1, 0, 3, 2))]
        builder.free_standing(corners, Plot(frontage=math.dist(corners[0], corners[1]), slab=True))


def _kiosk(builder: _Builder, inner: Floats, turn: float, rng: np.random.Generator) -> None:
    """A low building near the middle of a square."""
    centre = inner.mean(axis=0) + rng.normal(0, 4, 2)
    w, h = rng.uniform(4, 9), rng.uniform(3, 6)
    e = np.array([math.cos(turn), math.sin(turn)])
    f = np.array([-e[1], e[0]])
    corners = [centre + e * sx * w + f * sy * h for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    builder.free_standing(corners, Plot(frontage=w, low=True))


def _hedges(builder: _Builder, inner: Floats, distances: list[float], rng: np.random.Generator) -> None:
    """Hedges with gaps along the streets beside a park."""
    for (a, b), distance in zip(_edges(inner), distances, strict=True):
        if distance < 1.5 or rng.random() < 0.35:
            continue
        length = float(np.hypot(*(b - a)))
        at = rng.uniform(1, 4)
        while at < length - 4:
            end = min(at + rng.uniform(8, 25), length - 1)
            height = rng.uniform(0.7, 1.9)
            builder.wall(a + (b - a) * at / length, a + (b - a) * end / length, HEDGE, height=height)
            at = end + rng.uniform(2, 6)
