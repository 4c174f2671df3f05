"""Tables of the whole city for the ray caster: its walls by cell, rasters of its ground, its streets."""

from __future__ import annotations

import cv2
import numpy as np

from streetrecall.simulator.city.blocks import Walls
from streetrecall.simulator.city.chance import Stream, hash_unit
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.city.streets import pavement
from streetrecall.simulator.render.tables import (
    CELL_M,
    GROUND_M,
    STREET,
    Atlas,
    CityTables,
    Floats32,
    Ground,
    Records,
    WallGrid,
)

MAX_SETTS_M = 15.0  # wider streets are not paved with setts


def city_tables(city: City, atlas: Atlas) -> CityTables:
    """All tables of a city."""
    grid = wall_grid(city.walls)
    return CityTables(city.walls, grid, _ground(city, grid), _streets(city), atlas)


def wall_grid(walls: Walls) -> WallGrid:
    """Index walls by the cells of a uniform grid that they touch."""
    x = float(min(walls.x0.min(), walls.x1.min()) - CELL_M)
    y = float(min(walls.y0.min(), walls.y1.min()) - CELL_M)
    columns = int((max(walls.x0.max(), walls.x1.max()) - x) / CELL_M) + 2
    rows = int((max(walls.y0.max(), walls.y1.max()) - y) / CELL_M) + 2
    pairs = []
    for k in range(len(walls.x0)):
        s = np.linspace(0, 1, max(2, int(walls.length[k] / CELL_M * 8) + 2))
        i = ((walls.x0[k] + (walls.x1[k] - walls.x0[k]) * s - x) / CELL_M).astype(int)
        j = ((walls.y0[k] + (walls.y1[k] - walls.y0[k]) * s - y) / CELL_M).astype(int)
        cells = set((j * columns + i).tolist())
        # A sample every 1.25 m may miss a cell whose corner the wall cuts: add both cells beside a diagonal step.
        for a, b, c, d in zip(i[:-1], j[:-1], i[1:], j[1:], strict=True):
            if a != c and b != d:
                cells |= {int(b * columns + c), int(d * columns + a)}
        pairs += [(cell, k) for cell in cells]
    table = np.array(sorted(pairs), dtype=np.int64)
    start = np.searchsorted(table[:, 0], np.arange(columns * rows + 1)).astype(np.int64)
    return WallGrid(x, y, columns, rows, start, np.ascontiguousarray(table[:, 1]))


def _ground(city: City, grid: WallGrid) -> Ground:
    columns, rows = int(grid.columns * CELL_M / GROUND_M), int(grid.rows * CELL_M / GROUND_M)
    mask = np.zeros((rows, columns), np.uint8)
    kind = np.zeros((rows, columns), np.uint8)
    for outline, what in city.block_shapes:
        # Corners lie between cells: OpenCV takes them in sixteenths of a cell.
        points = np.round((outline - [grid.x, grid.y]) / GROUND_M * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], 1, cv2.LINE_8, 4)
        cv2.fillPoly(kind, [points], int(what), cv2.LINE_8, 4)
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = ((outside - inside) * GROUND_M).astype(np.float32)
    return Ground(grid.x, grid.y, distance, kind, _nearest_street(city, grid, distance))


def _nearest_street(city: City, grid: WallGrid, like: Floats32) -> np.ndarray:
    """The number of the nearest street in each cell of a raster like ``like``; 0 far from all streets."""
    rows, columns = like.shape
    nearest = np.zeros((rows, columns), np.int16)
    best = np.full((rows, columns), np.inf, np.float32)
    for s in city.streets:
        length = max(s.length, 1e-6)
        ux, uy = (s.x1 - s.x0) / length, (s.y1 - s.y0) / length
        reach = s.width / 2 + 6
        i0 = max(0, int((min(s.x0, s.x1) - reach - grid.x) / GROUND_M))
        i1 = min(columns, int((max(s.x0, s.x1) + reach - grid.x) / GROUND_M) + 1)
        j0 = max(0, int((min(s.y0, s.y1) - reach - grid.y) / GROUND_M))
        j1 = min(rows, int((max(s.y0, s.y1) + reach - grid.y) / GROUND_M) + 1)
        if i1 <= i0 or j1 <= j0:
            continue
        x = grid.x + np.arange(i0, i1)[None, :] * GROUND_M - s.x0
        y = grid.y + np.arange(j0, j1)[:, None] * GROUND_M - s.y0
        along = np.clip(x * ux + y * uy, 0, length)
        distance = np.hypot(x - along * ux, y - along * uy) - s.width / 2
        closer = distance < best[j0:j1, i0:i1]
        best[j0:j1, i0:i1][closer] = distance[closer]
        nearest[j0:j1, i0:i1][closer] = s.index
    return nearest


def _streets(city: City) -> Records:
    rows = []
    for s in city.streets:
        length = max(s.length, 1e-6)
        setts = hash_unit(city.seed, Stream.SETTS, s.line) < 0.28 and s.width < MAX_SETTS_M
        crossing = hash_unit(city.seed, Stream.CROSSING, s.index) < 0.5
        ux, uy = (s.x1 - s.x0) / length, (s.y1 - s.y0) / length
        rows.append((s.x0, s.y0, ux, uy, length, s.width, pavement(s.width), setts, crossing))
    return np.array(rows, STREET)
