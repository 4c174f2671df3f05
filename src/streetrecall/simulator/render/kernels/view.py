"""One picture while it is drawn: its rows and rays, and writing its pixels.

A slope is height over distance on the ground.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from streetrecall.simulator.render.kernels.light import Colour, Light
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.tables import Bytes, Camera, CityTables, Lens, Scene


class View(NamedTuple):
    """A picture and all that it shows."""

    image: Bytes  # (columns, rows, 3)
    camera: Camera
    city: CityTables
    scene: Scene
    light: Light


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


@kernel
def put(view: View, ray: Ray, row: int, colour: Colour, haze: float) -> None:
    """Write a pixel; ``haze`` is the share of haze in front of the colour, 0-1."""
    red, green, blue = _exposed(colour, haze, view.light)
    view.image[ray.column, row, 0] = np.uint8(red)
    view.image[ray.column, row, 1] = np.uint8(green)
    view.image[ray.column, row, 2] = np.uint8(blue)


@kernel
def blend(view: View, ray: Ray, row: int, colour: Colour, alpha: float, haze: float) -> None:
    """Mix a colour into a pixel; ``alpha`` is its share, 0-1."""
    image, column = view.image, ray.column
    red, green, blue = _exposed(colour, haze, view.light)
    image[column, row, 0] = np.uint8(image[column, row, 0] * (1 - alpha) + alpha * red)
    image[column, row, 1] = np.uint8(image[column, row, 1] * (1 - alpha) + alpha * green)
    image[column, row, 2] = np.uint8(image[column, row, 2] * (1 - alpha) + alpha * blue)


@kernel
def _exposed(colour: Colour, haze: float, light: Light) -> Colour:
    """A colour behind haze, in 8-bit levels."""
    red, green, blue = colour
    return (
        min(255.0, max(0.0, (red + (light.fog_red - red) * haze) * light.exposure)),
        min(255.0, max(0.0, (green + (light.fog_green - green) * haze) * light.exposure)),
        min(255.0, max(0.0, (blue + (light.fog_blue - blue) * haze) * light.exposure)),
    )
