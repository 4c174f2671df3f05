"""Walls: facades with their roofs, hedges and quays."""

from __future__ import annotations

import math
from typing import NamedTuple

from streetrecall.simulator.city import buildings as columns
from streetrecall.simulator.city import kinds
from streetrecall.simulator.render import textures
from streetrecall.simulator.render.kernels.facade import TILE_STRIDE, Strip, colour_in, facade
from streetrecall.simulator.render.kernels.light import Colour, haze_at, lit, snowed
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.rays import TALLEST_M, shadow_height
from streetrecall.simulator.render.kernels.sampling import material, mip_level, noise_at
from streetrecall.simulator.render.kernels.view import Ray, View, height_at, pixels_per_radian, put, row_at
from streetrecall.simulator.render.tables import Atlas, Scene
from streetrecall.simulator.render.tiles import TILE, TILE_CHANNELS


class Face(NamedTuple):
    """A wall as one column sees it."""

    wall: int
    distance: float  # metres
    haze: float  # 0-1
    top: int  # row of the eaves
    bottom: int  # row of the foot
    u: float  # metres along the wall, as seen from the camera
    facing: float  # cosine of the angle between ray and wall
    east: float  # east part of the wall's normal, a unit vector towards the camera
    sun: float  # cosine of the angle between that normal and the sun
    dark_below: float  # height, metres, below which other houses keep the sun away


@kernel
def paint_wall(view: View, ray: Ray, wall: int, distance: float, along: float) -> None:
    """Paint a wall at a distance (metres) on a ray, ``along`` (0-1) from its first end."""
    walls = view.city.walls
    face = _face(view, ray, wall, distance, along)
    if walls.kind[wall] >= kinds.HEDGE:
        _paint_low(view, ray, face)
        return
    strip = _strip(view, face)
    if walls.roof[wall] > walls.eaves[wall] and strip.front:
        _paint_roof(view, ray, face, strip)
    _paint_facade(view, ray, face, strip)


@kernel
def _face(view: View, ray: Ray, w: int, distance: float, along: float) -> Face:
    _, camera, city, _, light = view
    walls = city.walls
    top = math.floor(row_at(walls.eaves[w], distance, ray, camera) + 0.5)
    bottom = math.floor(row_at(0.0, distance, ray, camera) + 0.5)
    length = walls.length[w]
    u = along * length
    ex, ey = (walls.x1[w] - walls.x0[w]) / length, (walls.y1[w] - walls.y0[w]) / length
    normal_x, normal_y = ey, -ex
    facing = -(normal_x * ray.dx + normal_y * ray.dy)
    if facing < 0:
        normal_x, normal_y, facing = -normal_x, -normal_y, -facing
        u = length - u
    sun = normal_x * light.sun_x + normal_y * light.sun_y
    dark_below = 1e9
    if light.direct > 0 and sun > 0:
        dark_below = shadow_height(
            camera.x + ray.dx * distance + normal_x * 0.15, camera.y + ray.dy * distance + normal_y * 0.15,
            light.flat_x, light.flat_y, light.tan_up, TALLEST_M / max(light.tan_up, 0.05), city,
        )  # fmt: skip
    return Face(w, distance, haze_at(distance, light), top, bottom, u, facing, normal_x, sun, dark_below)


@kernel
def _strip(view: View, face: Face) -> Strip:
    _, camera, city, scene, _ = view
    floats, ints = scene.buildings
    b, length = city.walls.building[face.wall], city.walls.length[face.wall]
    width = floats[b, columns.F_BAY]
    bays = max(1, int(length / width + 0.5))
    width = length / bays
    bay = min(bays - 1, int(face.u / width))
    upright = face.distance / pixels_per_radian(camera.lens)  # metres that a pixel covers
    pixel = upright / max(face.facing, 0.12)
    size = math.sqrt(upright * pixel)
    grain = 200.0 if ints[b, columns.I_MATERIAL] == kinds.BRICK else 100.0
    return Strip(
        b, city.walls.kind[face.wall] == kinds.FACADE, face.u, bay, face.u / width - bay,
        mip_level(TILE / width * size * 0.8, TILE), mip_level(grain * size, textures.MATERIAL), pixel,
    )  # fmt: skip


@kernel
def _paint_low(view: View, ray: Ray, face: Face) -> None:
    """Paint a hedge or a quay."""
    _, camera, city, scene, light = view
    hedge, eaves = city.walls.kind[face.wall] == kinds.HEDGE, city.walls.eaves[face.wall]
    atlas, leaves = city.atlas, scene.environment.leaves
    for row in range(max(0, face.top), min(camera.lens.rows, face.bottom)):
        z = height_at(row, face.distance, ray, camera)
        if hedge:
            red, green, blue = _hedge(z, face.u, eaves, leaves, atlas)
        else:
            red = 0.5 * material(atlas.materials, kinds.ASHLAR, face.u / 2.56, z / 2.56, (0, textures.MATERIAL))
            green, blue = red, red
        direct = light.direct * (1.0 if z > face.dark_below else 0.0) * max(0.0, face.sun)
        put(view, ray, row, lit(red, green, blue, light.ambient, direct, light), face.haze)


@kernel
def _hedge(z: float, u: float, top: float, leaves: float, atlas: Atlas) -> Colour:
    g = noise_at(atlas.noise, u * 60.0, z * 60.0) * 0.6 + 0.4 * noise_at(atlas.noise, u * 190.0, z * 190.0)
    v = (0.35 + 0.9 * g) * (0.55 + 0.45 * z / max(top, 0.1))
    return 0.24 * v + 0.12 * (1 - leaves) * v, 0.34 * v, 0.14 * v


@kernel
def _paint_roof(view: View, ray: Ray, face: Face, strip: Strip) -> None:
    """Paint the slope of a roof above its facade."""
    _, camera, city, scene, light = view
    walls, w = city.walls, face.wall
    behind = face.distance + walls.setback[w] / max(face.facing, 0.3)
    ridge = math.floor(row_at(walls.roof[w], behind, ray, camera) + 0.5)
    ribbed = face.distance / pixels_per_radian(camera.lens) < 0.08
    snow = min(1.0, scene.environment.snow * 1.1)
    direct = light.direct * (1.0 if walls.eaves[w] + 1.0 > face.dark_below else 0.0)
    direct = direct * max(0.0, 0.6 * face.sun + 0.6 * light.sun_z)
    for row in range(max(0, ridge), min(camera.lens.rows, face.top)):
        v = (row + 0.5 - ridge) / max(1, face.top - ridge)
        red, green, blue = _roof(v, strip, ribbed, scene, city.atlas)
        red, green, blue = snowed(red, green, blue, snow * (0.8 if v > 0.1 else 0.5))
        put(view, ray, row, lit(red, green, blue, light.ambient, direct, light), face.haze)


@kernel
def _roof(v: float, strip: Strip, ribbed: bool, scene: Scene, atlas: Atlas) -> Colour:
    """Colour of a roof, v (0-1) from the ridge to the eaves; dormers are in every other bay."""
    floats, ints = scene.buildings
    b, u = strip.building, strip.u
    ribs = 0.94 + 0.1 * material(atlas.materials, kinds.PLASTER, u / 2.56, v, strip.material_level)
    if ribbed and (u * 1.6 - math.floor(u * 1.6)) < 0.12:
        ribs *= 0.85
    top_r, top_g, top_b = colour_in(floats, b, columns.F_TOP)
    red, green, blue = top_r * ribs, top_g * ribs, top_b * ribs
    tile = ints[b, columns.I_DORMER]
    if tile != kinds.PLAIN and (strip.bay & 1) == (ints[b, columns.I_KEY] >> 4 & 1):
        offset, side = strip.tile_level
        i, j = min(side - 1, int(strip.bay_u * side)), min(side - 1, int(v * side))
        q = tile * TILE_STRIDE + (offset + j * side + i) * TILE_CHANNELS
        trim, frame, glass = atlas.tiles[q] / 255.0, atlas.tiles[q + 1] / 255.0, atlas.tiles[q + 2] / 255.0
        rest = 1.0 - trim - frame - glass
        trim_r, trim_g, trim_b = colour_in(floats, b, columns.F_TRIM)
        red = red * rest + trim_r * trim + 0.85 * frame + 0.3 * glass
        green = green * rest + trim_g * trim + 0.84 * frame + 0.33 * glass
        blue = blue * rest + trim_b * trim + 0.8 * frame + 0.37 * glass
    return red, green, blue


@kernel
def _paint_facade(view: View, ray: Ray, face: Face, strip: Strip) -> None:
    _, camera, city, scene, light = view
    for row in range(max(0, face.top), min(camera.lens.rows, face.bottom)):
        z = max(0.0, height_at(row, face.distance, ray, camera))
        red, green, blue, shade = facade(z, strip, scene.buildings, city.atlas)
        sunlit = min(1.0, max(0.0, (z - face.dark_below) / 0.25 + 0.5))
        s = light.direct * sunlit * max(0.0, face.sun) * 0.95
        # Low down the houses across the street take some of the sky away.
        a = light.ambient * (0.78 + 0.22 * min(1.0, z / 9.0)) * (1.0 + 0.05 * face.east)
        red *= a * light.sky_red * (0.4 + 0.6 * shade) + s * light.sun_red * shade
        green *= a * light.sky_green * (0.4 + 0.6 * shade) + s * light.sun_green * shade
        blue *= a * light.sky_blue * (0.4 + 0.6 * shade) + s * light.sun_blue * shade
        put(view, ray, row, (red, green, blue), face.haze)
