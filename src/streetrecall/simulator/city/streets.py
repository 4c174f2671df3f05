"""The streets: a bent and turned grid, and what each block between them holds.

Positions are metres from the city's origin; x is east, y is north.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streetrecall.params.schema import Simulated
from streetrecall.simulator.city.kinds import PARK, PERIMETER, SLABS, SQUARE, WATER

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTHS = np.array([10.0, 12.0, 14.0, 17.0, 22.0])  # from facade to facade, metres
WIDTH_SHARES = (0.22, 0.26, 0.24, 0.16, 0.12)
V_LINES = 1000  # the lines along the second axis are numbered from here


@dataclass(frozen=True)
class Street:
    """A straight stretch between two crossings. ``line`` is the number of the line of stretches that it belongs to."""

    index: int
    line: int
    x0: float
    y0: float
    x1: float
    y1: float
    width: float
    driven: bool  # some camera car drove along it

    @property
    def length(self) -> float:
        return math.hypot(self.x1 - self.x0, self.y1 - self.y0)

    @property
    def bearing(self) -> float:
        """Compass bearing of the stretch, degrees."""
        return math.degrees(math.atan2(self.x1 - self.x0, self.y1 - self.y0)) % 360.0


def pavement(width: float) -> float:
    """Width of the pavement, metres, of a street that is ``width`` metres wide between its facades."""
    return 1.6 if width < 11 else 2.2 if width < 13 else 2.8 if width < 16 else 3.4 if width < 20 else 4.4


@dataclass(frozen=True)
class StreetGrid:
    """n x m crossings, the stretches between them, and (n - 1) x (m - 1) blocks."""

    turn: float  # of the grid against east, radians
    nodes: Floats  # (n, m, 2) crossings, metres
    width_u: Floats  # (n,) widths of the streets between nodes [i, j] and [i, j + 1]
    width_v: Floats  # (m,) widths of the streets between nodes [i, j] and [i + 1, j]
    kinds: Ints  # (n - 1, m - 1) what the blocks hold
    streets: list[Street]
    street_at: dict[tuple[str, int, int], int]  # (axis "u" or "v", i, j) of the first node to the index of the street
    swallowed: set[int]  # indices of the stretches that lie within a park or water


def lay_streets(params: Simulated, reach: float, rng: np.random.Generator) -> StreetGrid:
    """A grid of streets that covers the square of ``reach`` metres to each side of the origin."""
    pitch = params.block_m
    turn = math.radians(rng.uniform(8, 35))

    def lines() -> Floats:
        positions = [-reach]
        while positions[-1] < reach:
            positions.append(positions[-1] + pitch * rng.choice([0.72, 0.86, 1.0, 1.0, 1.2, 1.4]))
        return np.array(positions)

    us, vs = lines(), lines()
    n, m = len(us), len(vs)
    u = us[:, None] + rng.normal(0, 0.06 * pitch, (n, m))
    v = vs[None, :] + rng.normal(0, 0.06 * pitch, (n, m))
    cos, sin = math.cos(turn), math.sin(turn)
    nodes = np.stack([u * cos - v * sin, u * sin + v * cos], axis=2)
    width_u = rng.choice(WIDTHS, n, p=WIDTH_SHARES)
    width_v = rng.choice(WIDTHS, m, p=WIDTH_SHARES)
    kinds = _block_kinds(params, n - 1, m - 1, rng)
    grid = StreetGrid(turn, nodes, width_u, width_v, kinds, [], {}, set())
    _add_stretches(grid, params.undriven_share, rng)
    return grid


def _block_kinds(params: Simulated, rows: int, columns: int, rng: np.random.Generator) -> Ints:
    kinds = rng.choice(
        [PERIMETER, SLABS, SQUARE],
        (rows, columns),
        p=[1 - params.open_share, params.open_share * 0.7, params.open_share * 0.3],
    )
    # Parks and water cover several blocks each, and the streets between those.
    for kind, share in ((PARK, params.park_share), (WATER, params.water_share)):
        wanted = round(share * kinds.size)
        while (kinds == kind).sum() < wanted:
            row, column = rng.integers(0, rows - 1), rng.integers(0, columns - 1)
            height, width = [(2, 1), (1, 2), (2, 2)][int(rng.integers(0, 3))]
            kinds[row : row + height, column : column + width] = kind
    return kinds


def _add_stretches(grid: StreetGrid, undriven_share: float, rng: np.random.Generator) -> None:
    """Fill ``streets``, ``street_at`` and ``swallowed``."""
    n, m = grid.nodes.shape[:2]

    def is_open(i: int, j: int) -> bool:
        return 0 <= i < n - 1 and 0 <= j < m - 1 and int(grid.kinds[i, j]) in (PARK, WATER)

    for axis, count_i, count_j in (("u", n, m - 1), ("v", n - 1, m)):
        for i in range(count_i):
            for j in range(count_j):
                along_u = axis == "u"
                x0, y0 = grid.nodes[i, j]
                x1, y1 = grid.nodes[i, j + 1] if along_u else grid.nodes[i + 1, j]
                swallowed = is_open(i, j) and (is_open(i - 1, j) if along_u else is_open(i, j - 1))
                driven = not swallowed and rng.random() > undriven_share
                index = len(grid.streets)
                if swallowed:
                    grid.swallowed.add(index)
                grid.street_at[axis, i, j] = index
                line = i if along_u else V_LINES + j
                width = float(grid.width_u[i] if along_u else grid.width_v[j])
                grid.streets.append(
                    Street(index, line, float(x0), float(y0), float(x1), float(y1), width, bool(driven))
                )
