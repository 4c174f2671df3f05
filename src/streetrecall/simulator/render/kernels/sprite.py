"""Upright cut-outs that turn to the camera: trees, people, lamps and signs."""

from __future__ import annotations

import math
from typing import Any

from streetrecall.simulator.city import kinds
from streetrecall.simulator.render import tables, textures
from streetrecall.simulator.render.kernels.light import haze_at
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.rays import sunlight_at
from streetrecall.simulator.render.kernels.sampling import mip_level, noise_at
from streetrecall.simulator.render.kernels.view import Ray, View, blend, pixels_per_radian, row_at
from streetrecall.simulator.render.tables import Atlas

CROWN_STRIDE = (textures.CROWN * textures.CROWN * 4 - 1) // 3 * 2

Record = Any  # one row of a record array
Cutout = tuple[float, float, float, float]  # red, green, blue and alpha, 0-1
NOTHING = (0.0, 0.0, 0.0, 0.0)


@kernel
def paint_sprite(view: View, ray: Ray, number: int, distance: float, offset: float) -> None:
    """Paint a cut-out at a distance on a ray that passes its middle ``offset`` metres to the left."""
    _, camera, city, scene, light = view
    sprite = scene.sprites[number]
    shape = sprite.shape
    top = int(row_at(sprite.top, distance, ray, camera))
    bottom = int(row_at(sprite.base, distance, ray, camera)) + 1
    u = (offset / sprite.half_width + 1.0) * 0.5
    sunlit = 0.5
    if light.direct > 0:
        sunlit = sunlight_at(scene.shade, sprite.x - camera.x, sprite.y - camera.y, 0.5)
    if shape <= tables.BARE:
        sunlit = max(sunlit, 0.45)
    strength = light.ambient + light.direct * sunlit * 0.75
    haze = haze_at(distance, light)
    texels = textures.CROWN * distance / pixels_per_radian(camera.lens) / (2 * sprite.half_width)
    level = mip_level(texels, textures.CROWN)
    # A crown's side that is turned to the sun is lighter.
    side = 1.0 + 0.25 * light.direct * (u - 0.5) * (-(ray.dy * light.sun_x - ray.dx * light.sun_y)) * 2.0
    for row in range(max(0, top), min(camera.lens.rows, bottom)):
        v = (row + 0.5 - top) / max(1.0, bottom - top)
        if shape <= tables.BARE:
            red, green, blue, alpha = _crown(sprite, u, v, side, level, scene.environment.snow, city.atlas)
        elif shape == tables.TRUNK:
            red, green, blue, alpha = _trunk(sprite, u, v, city.atlas)
        elif shape == tables.PERSON:
            red, green, blue, alpha = _person(sprite, u, v, city.atlas)
        elif shape == tables.POLE:
            red, green, blue, alpha = _pole(sprite, u)
        elif shape == tables.LAMP:
            red, green, blue, alpha = _lamp(sprite, u, v)
        else:
            red, green, blue, alpha = _sign(sprite, u, v)
        if alpha > 0:
            blend(view, ray, row, (red * strength, green * strength, blue * strength), alpha, haze)


@kernel
def _crown(
    sprite: Record, u: float, v: float, side_light: float, level: tuple[int, int], snow: float, atlas: Atlas
) -> Cutout:
    offset, side = level
    i, j = min(side - 1, int(u * side)), min(side - 1, int(v * side))
    bare = sprite.shape == tables.BARE
    q = (sprite.which + (kinds.TREES if bare else 0)) * CROWN_STRIDE + (offset + j * side + i) * 2
    alpha = atlas.crowns[q] / 255.0
    if alpha < 0.04:
        return NOTHING
    red, green, blue = sprite.red, sprite.green, sprite.blue
    if bare:
        alpha = min(1.0, alpha * 1.15)
        white = 0.35 * snow
        red, green, blue = red + (0.9 - red) * white, green + (0.9 - green) * white, blue + (0.92 - blue) * white
        return red * side_light, green * side_light, blue * side_light, alpha
    g = atlas.crowns[q + 1] / 132.0
    return red * g * side_light, green * g * side_light, blue * g * side_light, alpha


@kernel
def _trunk(sprite: Record, u: float, v: float, atlas: Atlas) -> Cutout:
    bend = 0.62 + 0.5 * math.sqrt(max(0.0, 1 - (2 * u - 1) ** 2))
    bark = 0.7 + 0.6 * noise_at(atlas.noise, u * 40 + sprite.which * 37, v * 220.0)
    return sprite.red * bend * bark, sprite.green * bend * bark, sprite.blue * bend * bark, 1.0


@kernel
def _person(sprite: Record, u: float, v: float, atlas: Atlas) -> Cutout:
    """Skin, a coat of the sprite's colour, and grey legs."""
    i = min(textures.PERSON_W - 1, int(u * textures.PERSON_W))
    j = min(textures.PERSON_H - 1, int(v * textures.PERSON_H))
    people, which = atlas.people, sprite.which
    alpha = people[which, j, i, 0] / 255.0
    if alpha < 0.05:
        return NOTHING
    skin, coat, legs = people[which, j, i, 1], people[which, j, i, 2], people[which, j, i, 3]
    s = 1.0 / max(1.0, float(skin) + coat + legs)
    return (
        (0.78 * skin + sprite.red * coat + sprite.legs * legs) * s,
        (0.60 * skin + sprite.green * coat + sprite.legs * legs) * s,
        (0.50 * skin + sprite.blue * coat + sprite.legs * 1.1 * legs) * s,
        alpha,
    )


@kernel
def _pole(sprite: Record, u: float) -> Cutout:
    bend = 0.7 + 0.4 * math.sqrt(max(0.0, 1 - (2 * u - 1) ** 2))
    return sprite.red * bend, sprite.green * bend, sprite.blue * bend, 1.0


@kernel
def _lamp(sprite: Record, u: float, v: float) -> Cutout:
    if (2 * u - 1) ** 2 + (2 * v - 1) ** 2 > 1.0:
        return NOTHING
    return sprite.red, sprite.green, sprite.blue, 1.0


@kernel
def _sign(sprite: Record, u: float, v: float) -> Cutout:
    """A traffic sign: round with a red rim, a triangle, or square with a white rim."""
    x, y = 2 * u - 1, 2 * v - 1
    if sprite.which == 0:
        d2 = x**2 + y**2
        if d2 > 1.0:
            return NOTHING
        if d2 > 0.55:
            return 0.75, 0.12, 0.12, 1.0
    elif sprite.which == 1:
        if abs(x) > 1.0 - v:
            return NOTHING
    elif abs(x) > 0.82 or abs(y) > 0.86:
        return 0.9, 0.9, 0.9, 1.0
    return sprite.red, sprite.green, sprite.blue, 1.0
