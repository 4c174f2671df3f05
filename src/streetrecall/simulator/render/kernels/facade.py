"""The colour of a facade: a tile for each bay and floor, material, bands, shop signs and scaffolds."""

from __future__ import annotations

import math
from typing import NamedTuple

from streetrecall.simulator.city import buildings as columns
from streetrecall.simulator.city import kinds
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.sampling import hash_of, material, noise_at
from streetrecall.simulator.render.tables import Atlas, Buildings, Bytes, Floats32, Ints
from streetrecall.simulator.render.tiles import TILE, TILE_CHANNELS

TILE_STRIDE = (TILE * TILE * 4 - 1) // 3 * TILE_CHANNELS
LAST_BAY = columns.MAX_BAYS - 1

Colour = tuple[float, float, float]
ShadedColour = tuple[float, float, float, float]


class Strip(NamedTuple):
    """One upright strip of a wall: what one column of the picture shows of it."""

    building: int
    front: bool  # the wall is a facade; a party wall has no openings
    u: float  # metres along the wall
    bay: int
    bay_u: float  # 0-1 across the bay
    tile_level: tuple[int, int]  # mip level, see `mip_level`
    material_level: tuple[int, int]
    pixel: float  # metres along the wall that one pixel covers


@kernel
def colour_in(floats: Floats32, building: int, column: int) -> Colour:
    """A colour from the table of buildings."""
    return floats[building, column], floats[building, column + 1], floats[building, column + 2]


@kernel
def facade(z: float, strip: Strip, buildings: Buildings, atlas: Atlas) -> ShadedColour:
    """Colour at height z, metres, before light falls on it, and the share of the light that reaches it there."""
    floats, ints = buildings
    b, u = strip.building, strip.u
    ground, key = floats[b, columns.F_GROUND], ints[b, columns.I_KEY]
    tile, tile_v, floor = _tile(z, strip.bay, b, floats, ints)
    shop = ints[b, columns.I_SHOP] == 1 and z < ground
    shade = 1.0
    trim = frame = glass = iron = 0.0
    if tile != kinds.PLAIN and strip.front:
        trim, frame, glass, iron, relief = _openings(atlas.tiles, tile, strip.bay_u, tile_v, strip.tile_level)
        shade = 1.0 + (relief - 1.0) * floats[b, columns.F_RELIEF]
    which = ints[b, columns.I_MATERIAL]
    square = 1.28 if which == kinds.BRICK else 2.56
    tone = material(atlas.materials, which, u / square, z / square, strip.material_level)
    tone *= 0.93 + 0.14 * noise_at(atlas.noise, u * 11.0 + (key & 511), z * 7.0 + (key >> 9 & 511))
    rest = max(0.0, 1.0 - trim - frame - glass - iron)
    # What is not part of a bay: the downpipe, the plinth, the string course and the cornice.
    eaves, cornice = floats[b, columns.F_EAVES], ints[b, columns.I_CORNICE]
    if u < 0.13 and strip.front and key & 4 and z < eaves - 0.4:
        return 0.36, 0.35, 0.33, 0.8 + 1.6 * u
    if z < 0.55 and tile != ints[b, columns.I_DOOR]:
        plinth = 0.42 * tone
        return plinth, plinth * 0.98, plinth * 0.95, shade
    if abs(z - ground - 0.1) < 0.16 and cornice != 1:
        rest, trim, frame, glass = 0.0, 1.0, 0.0, 0.0
    elif z > eaves - (0.35 + 0.2 * cornice):
        rest, trim, frame, glass, iron = 0.0, 1.0, 0.0, 0.0, 0.0
        shade = 0.78 if z < eaves - 0.22 else 1.03
        if cornice == 3 and strip.pixel < 0.09 and math.sin(u * 9.0) > 0.2:
            shade *= 0.8
    wall_r, wall_g, wall_b = _wall_colour(z, b, shop, floats, ints)
    trim_r, trim_g, trim_b = colour_in(floats, b, columns.F_TRIM)
    frame_r, frame_g, frame_b = colour_in(floats, b, columns.F_SHOP if shop else columns.F_FRAME)
    pane_r, pane_g, pane_b = 0.0, 0.0, 0.0
    if glass > 0.01:
        pane_r, pane_g, pane_b = _pane(z, tile_v, floor, strip, shop, buildings, atlas.noise)
    half = 0.5 + 0.5 * tone
    red = (wall_r * tone) * rest + trim_r * trim * half + frame_r * frame + pane_r * glass + 0.13 * iron
    green = (wall_g * tone) * rest + trim_g * trim * half + frame_g * frame + pane_g * glass + 0.13 * iron
    blue = (wall_b * tone) * rest + trim_b * trim * half + frame_b * frame + pane_b * glass + 0.14 * iron
    if shop and strip.front and ints[b, columns.I_SIGNROW] > 0:
        red, green, blue, shade = _sign(red, green, blue, shade, ground - z, strip, buildings)
    if ints[b, columns.I_SCAFFOLD] == 1:
        red, green, blue = _scaffold(red, green, blue, z, strip, key, atlas.noise)
        shade = 0.5 + 0.5 * shade
    return red, green, blue, shade


@kernel
def _tile(z: float, bay: int, b: int, floats: Floats32, ints: Ints) -> tuple[int, float, int]:
    """The facade tile at a height, where in it from its top (0-1), and the floor; -1: the ground floor."""
    ground = floats[b, columns.F_GROUND]
    bit = min(bay, LAST_BAY)
    if z < ground:
        door = (ints[b, columns.I_DOORS] >> bit) & 1
        return ints[b, columns.I_DOOR] if door == 1 else ints[b, columns.I_GROUND], 1.0 - z / ground, -1
    q = (z - ground) / floats[b, columns.F_FLOOR]
    floor, floors = int(q), ints[b, columns.I_FLOORS]
    if floor >= floors:
        return kinds.PLAIN, 0.5, floor
    tile = ints[b, columns.I_MAIN]
    if (ints[b, columns.I_ACCENTS] >> bit) & 1:
        tile = ints[b, columns.I_ACCENT]
    elif floor == 0:
        tile = ints[b, columns.I_FIRST]
    elif floor == floors - 1:
        tile = ints[b, columns.I_TOP]
    return tile, 1.0 - (q - floor), floor


@kernel
def _openings(
    tiles: Bytes, tile: int, u: float, v: float, level: tuple[int, int]
) -> tuple[float, float, float, float, float]:
    """Weights of trim, frame, glass and iron, and relief (1: flat), at u, v (0-1) of a tile; bilinear."""
    offset, side = level
    x, y = u * side - 0.5, v * side - 0.5
    i, j = math.floor(x), math.floor(y)
    ax, ay = x - i, y - j
    i0, i1 = max(i, 0), min(i + 1, side - 1)
    j0, j1 = max(j, 0), min(j + 1, side - 1)
    base = tile * TILE_STRIDE + offset * TILE_CHANNELS
    a00, a10 = base + (j0 * side + i0) * TILE_CHANNELS, base + (j0 * side + i1) * TILE_CHANNELS
    a01, a11 = base + (j1 * side + i0) * TILE_CHANNELS, base + (j1 * side + i1) * TILE_CHANNELS
    w00, w10, w01, w11 = (1 - ax) * (1 - ay), ax * (1 - ay), (1 - ax) * ay, ax * ay
    s = 1.0 / 255.0
    trim = (tiles[a00] * w00 + tiles[a10] * w10 + tiles[a01] * w01 + tiles[a11] * w11) * s
    frame = (tiles[a00 + 1] * w00 + tiles[a10 + 1] * w10 + tiles[a01 + 1] * w01 + tiles[a11 + 1] * w11) * s
    glass = (tiles[a00 + 2] * w00 + tiles[a10 + 2] * w10 + tiles[a01 + 2] * w01 + tiles[a11 + 2] * w11) * s
    iron = (tiles[a00 + 3] * w00 + tiles[a10 + 3] * w10 + tiles[a01 + 3] * w01 + tiles[a11 + 3] * w11) * s
    relief = (tiles[a00 + 4] * w00 + tiles[a10 + 4] * w10 + tiles[a01 + 4] * w01 + tiles[a11 + 4] * w11) / 128.0
    return trim, frame, glass, iron, relief


@kernel
def _wall_colour(z: float, b: int, shop: bool, floats: Floats32, ints: Ints) -> Colour:
    """The wall's own colour; a ground floor may be rusticated or painted."""
    red, green, blue = colour_in(floats, b, columns.F_WALL)
    if z < floats[b, columns.F_GROUND] and (ints[b, columns.I_CORNICE] >= 2 or shop):
        trim_r, trim_g, trim_b = colour_in(floats, b, columns.F_TRIM)
        return red * 0.55 + trim_r * 0.3, green * 0.55 + trim_g * 0.3, blue * 0.55 + trim_b * 0.3
    return red, green, blue


@kernel
def _pane(z: float, v: float, floor: int, strip: Strip, shop: bool, buildings: Buildings, noise: Floats32) -> Colour:
    """A window's glass, v (0-1) from its top: it reflects the sky above and the houses across, each pane in its way."""
    floats, ints = buildings
    b, u, key = strip.building, strip.u, ints[strip.building, columns.I_KEY]
    h = hash_of(strip.bay, floor, key)
    mirror = noise_at(noise, u * 13.0 + h * 300.0, z * 9.0 + h * 90.0)
    rise = 0.04 + (0.14 + 0.5 * h * h) * max(0.0, 1.35 - 1.2 * v) * (0.35 + 1.3 * max(0.0, mirror - 0.2))
    red, green, blue = 0.07 + rise * 0.88, 0.085 + rise, 0.1 + rise * 1.1
    if shop:
        lamp = floats[b, columns.F_LIT]
        n = noise_at(noise, u * 60.0 + (key & 1023), z * 60.0 + lamp * 512)
        return red * 0.5 + n * 0.3 * lamp, green * 0.5 + n * 0.25 * lamp, blue * 0.5 + n * 0.18 * lamp
    cloth = hash_of(strip.bay + 77, floor, key + int(floats[b, columns.F_BLIND] * 1000))
    if cloth < 0.34 and v < 0.25 + cloth * 1.6:  # a curtain or a blind
        return red * 0.3 + 0.5, green * 0.3 + 0.49, blue * 0.3 + 0.46
    return red, green, blue


@kernel
def _sign(
    red: float, green: float, blue: float, shade: float, below: float, strip: Strip, buildings: Buildings
) -> ShadedColour:
    """A colour with a shop's sign or awning over it, ``below`` metres under the top of the ground floor."""
    floats, ints = buildings
    b, u, bay_u, key = strip.building, strip.u, strip.bay_u, ints[strip.building, columns.I_KEY]
    sign_r, sign_g, sign_b = colour_in(floats, b, columns.F_SIGN)
    kind = ints[b, columns.I_SIGNROW]
    if kind == 1 and 0.25 < below < 0.8:  # a board with strokes on it
        ink = 0.0
        if 0.36 < below < 0.68 and 0.15 < bay_u < 0.85 and strip.pixel < 0.12:
            ink = 1.0 if hash_of(int(u * 7), int(below * 12), key) > 0.52 else 0.0
        v = 0.92 if sign_r + sign_g + sign_b < 1.6 else 0.12
        return sign_r + (v - sign_r) * ink, sign_g + (v - sign_g) * ink, sign_b + (v - sign_b) * ink, 1.0
    if kind == 2 and 0.55 < below < 1.35 and 0.04 < bay_u < 0.96:  # an awning, striped or plain
        pale = 1.0 if (int(u * 2.5) & 1) == 0 and (key & 1) == 0 else 0.0
        return (
            sign_r + (0.9 - sign_r) * pale,
            sign_g + (0.88 - sign_g) * pale,
            sign_b + (0.84 - sign_b) * pale,
            1.06 - 0.3 * (below - 0.55),
        )
    if kind == 3 and 0.3 < below < 0.62 and 0.3 < bay_u < 0.7 and (strip.bay & 1) == 0:
        return sign_r, sign_g, sign_b, shade
    return red, green, blue, shade


@kernel
def _scaffold(red: float, green: float, blue: float, z: float, strip: Strip, key: int, noise: Floats32) -> Colour:
    """A colour behind a scaffold: bars and a net, which is thinner at street level."""
    u, pixel = strip.u, strip.pixel
    tone = 0.75 + 0.2 * noise_at(noise, u * 9.0, z * 5.0)
    net_r, net_g, net_b = 0.36 * tone, 0.52 * tone, 0.46 * tone
    if key & 2:
        net_r, net_g, net_b = 0.82 * tone, 0.84 * tone, 0.84 * tone
    bar = 0.0
    if z - 2.0 * math.floor(z / 2.0) < 0.09 + pixel or u - 2.4 * math.floor(u / 2.4) < 0.07 + pixel:
        bar = 0.7 if pixel < 0.4 else 0.2
    net = 0.62
    if z < 2.2:
        net *= 0.3
    red, green, blue = red + (net_r - red) * net, green + (net_g - green) * net, blue + (net_b - blue) * net
    return red + (0.3 - red) * bar, green + (0.3 - green) * bar, blue + (0.3 - blue) * bar
