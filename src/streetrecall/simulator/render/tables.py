"""What the ray caster reads: tables of the whole city, of one panorama's surroundings, and of one picture.

All are named tuples of arrays and numbers or record arrays, which compiled code takes as they are. Positions are metres
from the city's origin; x is east, y is north, z is up from the street. Colours are RGB in 0-1 as displayed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streetrecall.simulator.city.blocks import Walls

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Records = NDArray[np.void]

CELL_M = 10.0  # of the grid of walls
GROUND_M = 0.5  # of the rasters of the ground
SHADE_M = 0.7  # of the raster of sunlight
SHADE_CELLS = 125  # cells along each side of that raster, whose middle is the camera

STREET = np.dtype(
    [
        ("x", "f8"), ("y", "f8"),  # where it begins
        ("ux", "f8"), ("uy", "f8"),  # unit vector along it
        ("length", "f8"), ("width", "f8"), ("pavement", "f8"),  # metres
        ("setts", "?"), ("crossing", "?"),  # paved with setts; with zebra crossings at its ends
    ],
    align=True,
)  # fmt: skip

# Upright cut-outs that turn to the camera: trees, people, lamps, signs.
SPRITE = np.dtype(
    [
        ("x", "f8"), ("y", "f8"), ("base", "f8"), ("half_width", "f8"), ("top", "f8"),  # metres
        ("shape", "i8"), ("which", "i8"),  # one of the shapes below; a variant of it
        ("red", "f8"), ("green", "f8"), ("blue", "f8"), ("legs", "f8"),  # colour; grey of a person's legs
    ],
    align=True,
)  # fmt: skip
LEAFY, BARE, TRUNK, PERSON, POLE, LAMP, SIGN = range(7)

CAR = np.dtype(
    [
        ("x", "f8"), ("y", "f8"), ("cos", "f8"), ("sin", "f8"),  # middle; direction, anticlockwise from east
        ("half_length", "f8"), ("half_width", "f8"), ("kind", "i8"),  # metres; one of the kinds below
        ("red", "f8"), ("green", "f8"), ("blue", "f8"),
    ],
    align=True,
)  # fmt: skip
SALOON, VAN, ESTATE = range(3)


class Atlas(NamedTuple):
    """All textures, flat: each with its mip maps, see `streetrecall.simulator.render.textures.pyramid`."""

    tiles: Bytes  # facade tiles: weights of trim, frame, glass and iron, and shade
    materials: Bytes  # brightness; 128: unchanged
    crowns: Bytes  # of leafy trees, then of bare ones: alpha and brightness
    people: Bytes  # (people, height, width, 4), without mip maps: alpha, skin, upper part, lower part
    noise: Floats32  # (side, side) 0-1; it repeats without a seam


class WallGrid(NamedTuple):
    """The walls that touch each cell of a uniform grid. Cells are numbered row by row from the south-west."""

    x: float  # south-west corner
    y: float
    columns: int
    rows: int
    start: Ints  # (cells + 1,) where the cell's walls begin in `walls`
    walls: Ints  # numbers of walls, cell by cell


class Ground(NamedTuple):
    """Rasters of the ground (rows, columns), from the south-west."""

    x: float  # south-west corner
    y: float
    distance: Floats32  # to the nearest block, metres; negative inside it
    kind: Bytes  # of the block there
    street: NDArray[np.int16]  # the nearest one


class CityTables(NamedTuple):
    """The whole city."""

    walls: Walls
    grid: WallGrid
    ground: Ground
    streets: Records  # STREET
    atlas: Atlas


class Buildings(NamedTuple):
    """All buildings in one month; the columns are named in `streetrecall.simulator.city.buildings`."""

    floats: Floats32
    ints: Ints


class Environment(NamedTuple):
    """Light and weather: the sun's direction as a unit vector, shares 0-1."""

    sun_x: float
    sun_y: float
    sun_z: float
    direct: float  # strength of direct sunlight
    ambient: float  # strength of the sky's light
    cloud: float
    snow: float
    wet: float
    haze: float
    leaves: float
    warm: float  # added to the sun's red and taken from its blue
    exposure: float
    sky_x: float  # where in the noise the clouds begin, texels
    sky_y: float


class Scene(NamedTuple):
    """What surrounds one panorama."""

    buildings: Buildings
    shade: Floats32  # (SHADE_CELLS, SHADE_CELLS) share of direct sunlight on the ground
    sprites: Records  # SPRITE
    cars: Records  # CAR
    environment: Environment


class Lens(NamedTuple):
    """How rows of a picture correspond to slopes (height over distance) of the rays."""

    spherical: bool  # an equirectangular picture, else one in perspective
    focal: float  # focal length, pixels; perspective only
    horizon: float  # row of the horizon; perspective only
    rows: int


class Camera(NamedTuple):
    """Where one picture is taken from, and the direction of each of its columns."""

    x: float
    y: float
    z: float
    dx: Floats  # (columns,) east part of the column's direction, a unit vector
    dy: Floats  # (columns,) north part
    stretch: Floats  # (columns,) a ray's slope over the slope of its row
    lens: Lens
