"""Rays through the plan of the city: the walls that a ray meets, and what the sun's rays leave in shadow.

A ray walks from cell to cell of the grid of walls (Amanatides and Woo, 1987).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from streetrecall.simulator.city.blocks import Walls
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.sampling import hash_of
from streetrecall.simulator.render.tables import CELL_M, SHADE_M, CityTables, Floats, Floats32, Ints, WallGrid

REACH_M = 320.0  # how far a ray of the camera goes
TALLEST_M = 34.0  # no roof is higher
FAR = 1e18


class Hits(NamedTuple):
    """Room for the walls that a ray meets."""

    distance: Floats  # metres
    wall: Ints
    along: Floats  # 0-1 from one end of the wall to the other


@kernel
def _enter(x: float, y: float, dx: float, dy: float, grid: WallGrid) -> tuple[int, int, float, float, float, float]:
    """A ray's first cell, the distances at which it leaves that one along x and along y, and those between cells."""
    i, j = math.floor((x - grid.x) / CELL_M), math.floor((y - grid.y) / CELL_M)
    inv_x = 1.0 / dx if abs(dx) > 1e-12 else FAR
    inv_y = 1.0 / dy if abs(dy) > 1e-12 else FAR
    next_x = (grid.x + (i + (1 if dx > 0 else 0)) * CELL_M - x) * inv_x if abs(dx) > 1e-12 else FAR
    next_y = (grid.y + (j + (1 if dy > 0 else 0)) * CELL_M - y) * inv_y if abs(dy) > 1e-12 else FAR
    return i, j, next_x, next_y, abs(CELL_M * inv_x), abs(CELL_M * inv_y)


@kernel
def _meet(
    walls: Walls, w: int, x: float, y: float, dx: float, dy: float, t_in: float, t_out: float
) -> tuple[float, float]:
    """Distance at which a ray meets a wall, from t_in to t_out, and where along the wall, 0-1; negative: nowhere."""
    ex, ey = walls.x1[w] - walls.x0[w], walls.y1[w] - walls.y0[w]
    cross = dx * ey - dy * ex
    if abs(cross) < 1e-9:
        return -1.0, -1.0
    qx, qy = walls.x0[w] - x, walls.y0[w] - y
    t = (qx * ey - qy * ex) / cross
    if t < t_in or t >= t_out or t < 0.05:
        return -1.0, -1.0
    u = (qx * dy - qy * dx) / cross
    if u > 1.0:
        return -1.0, -1.0
    return t, u


@kernel
def visible_walls(x: float, y: float, dx: float, dy: float, z: float, city: CityTables, hits: Hits) -> int:
    """Fill ``hits`` with the walls that a camera at x, y, z sees in one direction, near to far; return their number."""
    walls, grid = city.walls, city.grid
    i, j, next_x, next_y, delta_x, delta_y = _enter(x, y, dx, dy, grid)
    count, t_in = 0, 0.0
    steepest = -1e9  # slope of the steepest top so far: nothing lower behind it is seen
    while t_in < REACH_M and 0 <= i < grid.columns and 0 <= j < grid.rows:
        t_out = min(next_x, next_y)
        cell = j * grid.columns + i
        first = count
        for k in range(grid.start[cell], grid.start[cell + 1]):
            w = grid.walls[k]
            t, u = _meet(walls, w, x, y, dx, dy, t_in, t_out)
            if u < 0.0 or count >= hits.distance.shape[0]:
                continue
            at = count
            while at > first and hits.distance[at - 1] > t:
                _copy(hits, at - 1, at)
                at -= 1
            hits.distance[at], hits.wall[at], hits.along[at] = t, w, u
            count += 1
        kept = first
        for k in range(first, count):
            if (walls.roof[hits.wall[k]] - z) / hits.distance[k] > steepest:
                _copy(hits, k, kept)
                steepest = max(steepest, (walls.eaves[hits.wall[kept]] - z) / hits.distance[kept])
                kept += 1
        count = kept
        if steepest > (36.0 - z) / max(t_out, 0.1):
            break
        t_in = t_out
        if next_x < next_y:
            next_x += delta_x
            i += 1 if dx > 0 else -1
        else:
            next_y += delta_y
            j += 1 if dy > 0 else -1
    return count


@kernel
def _copy(hits: Hits, source: int, target: int) -> None:
    hits.distance[target] = hits.distance[source]
    hits.wall[target] = hits.wall[source]
    hits.along[target] = hits.along[source]


@kernel
def shadow_height(
    x: float, y: float, sun_x: float, sun_y: float, tan_up: float, reach: float, city: CityTables
) -> float:
    """Height, metres, below which houses keep the sun from x, y; far below the street where none does.

    ``sun_x, sun_y`` is the unit vector to the sun on the ground, and ``tan_up`` the tangent of the sun's elevation.
    """
    walls, grid = city.walls, city.grid
    i, j, next_x, next_y, delta_x, delta_y = _enter(x, y, sun_x, sun_y, grid)
    shadow, t_in = -1e9, 0.0
    while t_in < reach and 0 <= i < grid.columns and 0 <= j < grid.rows:
        t_out = min(next_x, next_y)
        cell = j * grid.columns + i
        for k in range(grid.start[cell], grid.start[cell + 1]):
            w = grid.walls[k]
            t, u = _meet(walls, w, x, y, sun_x, sun_y, t_in, t_out)
            if u < 0.0 or t <= 0.4:
                continue
            shadow = max(shadow, walls.roof[w] - t * tan_up)
        if TALLEST_M - t_out * tan_up < shadow:
            break
        t_in = t_out
        if next_x < next_y:
            next_x += delta_x
            i += 1 if sun_x > 0 else -1
        else:
            next_y += delta_y
            j += 1 if sun_y > 0 else -1
    return shadow


@kernel
def fill_shade(
    shade: Floats32, x: float, y: float, sun: tuple[float, float, float], city: CityTables, trees: Floats, leaves: float
) -> None:
    """Fill ``shade`` (side, side) with the share of direct sunlight, 0-1, on the ground around x, y.

    ``sun`` is what `shadow_height` takes as ``sun_x, sun_y, tan_up``.
    """
    sun_x, sun_y, tan_up = sun
    side = shade.shape[0]
    for j in range(side):
        for i in range(side):
            px, py = x + (i - side // 2) * SHADE_M, y + (j - side // 2) * SHADE_M
            height = shadow_height(px, py, sun_x, sun_y, tan_up, TALLEST_M / tan_up, city)
            shade[j, i] = 0.0 if height > 0 else 1.0
    for k in range(trees.shape[0]):
        radius, top = trees[k, 2], trees[k, 3]
        low = top * 0.25
        for q in range(6):  # a crown is six discs, one above the other
            z = low + (top - low) * (q + 0.5) / 6
            d = z / tan_up
            reach = radius * math.sqrt(max(0.05, 1 - ((q - 2.5) / 3.2) ** 2)) / SHADE_M
            cx = (trees[k, 0] - sun_x * d - x) / SHADE_M + side // 2
            cy = (trees[k, 1] - sun_y * d - y) / SHADE_M + side // 2
            if cx < -reach or cy < -reach or cx > side + reach or cy > side + reach:
                continue
            for j in range(max(0, int(cy - reach)), min(side, int(cy + reach) + 2)):
                for i in range(max(0, int(cx - reach)), min(side, int(cx + reach) + 2)):
                    if (i - cx) ** 2 + (j - cy) ** 2 < reach * reach:
                        shade[j, i] *= 1.0 - (0.12 + 0.5 * leaves) * (0.5 + 0.5 * hash_of(i, j, k))


@kernel
def sunlight_at(shade: Floats32, x: float, y: float, otherwise: float) -> float:
    """Share of direct sunlight, 0-1, in the cell at x, y metres from the camera; ``otherwise`` beyond the raster."""
    half = shade.shape[0] // 2
    i, j = x / SHADE_M + half, y / SHADE_M + half
    if 0 <= i < shade.shape[0] - 1 and 0 <= j < shade.shape[0] - 1:
        return np.float64(shade[int(j), int(i)])
    return otherwise
