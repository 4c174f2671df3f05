"""Rows of a picture, and the rays through them. A slope is height over distance on the ground."""

from __future__ import annotations

import math
from typing import NamedTuple

from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.tables import Camera, Lens


class Ray(NamedTuple):
    """The direction of one column of a picture."""

    column: int
    dx: float  # unit vector on the ground
    dy: float
    stretch: float  # slope of a ray of this column over the slope of its row


@kernel
def row_of(slope: float, lens: Lens) -> float:
    """Where a row's slope is in the picture; the middle of a row is at its number plus a half."""
    if lens.spherical:
        return lens.rows * 0.5 - math.atan(slope) * lens.rows / math.pi
    return lens.horizon - lens.focal * slope


@kernel
def slope_of(row: int, lens: Lens) -> float:
    """Slope of the middle of a row."""
    if lens.spherical:
        return math.tan(math.pi * (0.5 - (row + 0.5) / lens.rows))
    return (lens.horizon - row - 0.5) / lens.focal


@kernel
def pixels_per_radian(lens: Lens) -> float:
    """Resolution at the horizon."""
    return lens.rows / math.pi if lens.spherical else lens.focal


@kernel
def row_at(height: float, distance: float, ray: Ray, camera: Camera) -> float:
    """Where a height, metres above the street, is seen at a distance, metres."""
    return row_of((height - camera.z) / distance / ray.stretch, camera.lens)


@kernel
def height_at(row: int, distance: float, ray: Ray, camera: Camera) -> float:
    """Height, metres above the street, that the middle of a row shows at a distance, metres."""
    return camera.z + slope_of(row, camera.lens) * ray.stretch * distance
