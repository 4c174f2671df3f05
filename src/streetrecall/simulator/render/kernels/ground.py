"""The ground: pavements, streets and what lies in open blocks."""

from __future__ import annotations

import math
from typing import NamedTuple

from streetrecall.simulator.city import kinds
from streetrecall.simulator.render import textures
from streetrecall.simulator.render.kernels.light import Colour, Light, haze_at, lit, snowed
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.sampling import material, mip_level, noise_at
from streetrecall.simulator.render.kernels.view import Ray, View, pixels_per_radian, put, slope_of
from streetrecall.simulator.render.tables import (
    GROUND_M,
    SHADE_M,
    Atlas,
    CityTables,
    Environment,
    Floats32,
)

SQUARE_M = 2.56  # side of a material's square
TexturedColour = tuple[float, float, float, float]


class Spot(NamedTuple):
    """A point of the ground as the camera sees it."""

    x: float  # metres from the city's origin
    y: float
    distance: float  # metres from the camera
    pixel: float  # metres that a pixel covers away from the camera
    level: tuple[int, int]  # mip level of its material
    big: float  # coarse noise, 0-1


class Road(NamedTuple):
    """Where a spot is on the nearest street."""

    street: int
    along: float  # metres from the street's beginning
    across: float  # metres from its middle
    edge: float  # metres to the nearest block; negative inside it


@kernel
def paint_ground(view: View, ray: Ray, first: int) -> None:
    """Paint a column's ground from row ``first`` downwards."""
    _, camera, city, scene, light = view
    ground = city.ground
    for row in range(max(0, first), camera.lens.rows):
        distance = -camera.z / min(slope_of(row, camera.lens) * ray.stretch, -0.004)
        x, y = camera.x + ray.dx * distance, camera.y + ray.dy * distance
        i, j = int((x - ground.x) / GROUND_M), int((y - ground.y) / GROUND_M)
        if i < 0 or j < 0 or i + 1 >= ground.distance.shape[1] or j + 1 >= ground.distance.shape[0]:
            put(view, ray, row, (light.fog_red, light.fog_green, light.fog_blue), 0.0)
            continue
        fine = pixels_per_radian(camera.lens)
        pixel = distance * distance / (camera.z * fine)
        level = mip_level(math.sqrt(pixel * distance / fine) * 100.0, textures.MATERIAL)
        spot = Spot(x, y, distance, pixel, level, noise_at(city.atlas.noise, x * 6.0, y * 6.0))
        road = _road(x, y, i, j, city)
        if road.edge > 0.0:
            red, green, blue, snow = _street(spot, road, city, scene.environment)
        else:
            red, green, blue, snow = _open_ground(spot, ground.kind[j, i], scene.environment, light, city.atlas)
        red, green, blue = snowed(red, green, blue, snow)
        sunlit = 0.55
        if light.direct > 0:
            sunlit = _sunlight(scene.shade, x - camera.x, y - camera.y)
        direct = light.direct * sunlit * (0.25 + 0.75 * light.sun_z)
        # Close to a wall the ground is darker.
        open_sky = 0.72 + 0.28 * min(1.0, max(0.0, abs(road.edge) * 1.6)) if road.edge > 0 else 1.0
        colour = lit(red, green, blue, light.ambient * open_sky, direct, light)
        put(view, ray, row, colour, haze_at(distance, light))


@kernel
def _road(x: float, y: float, i: int, j: int, city: CityTables) -> Road:
    ground = city.ground
    ax, ay = (x - ground.x) / GROUND_M - i, (y - ground.y) / GROUND_M - j
    raster = ground.distance
    edge = (raster[j, i] * (1 - ax) + raster[j, i + 1] * ax) * (1 - ay) + (
        raster[j + 1, i] * (1 - ax) + raster[j + 1, i + 1] * ax
    ) * ay
    number = ground.street[j, i]
    street = city.streets[number]
    along = (x - street.x) * street.ux + (y - street.y) * street.uy
    across = -(x - street.x) * street.uy + (y - street.y) * street.ux
    # Between crossings a block's edge is parallel to the street: exact, where the raster has steps.
    exact = street.width * 0.5 - abs(across)
    if abs(exact - edge) < 0.8:
        edge = exact
    return Road(number, along, across, edge)


@kernel
def _street(spot: Spot, road: Road, city: CityTables, environment: Environment) -> TexturedColour:
    """Colour of pavement, kerb or roadway, and the snow on it, 0-1."""
    street = city.streets[road.street]
    materials, snow, big = city.atlas.materials, environment.snow, spot.big
    u, v = road.along / SQUARE_M, road.across / SQUARE_M
    if road.edge < street.pavement:
        which = kinds.PAVING if street.width > 11 else kinds.ASPHALT
        tone = (0.56 + 0.08 * big) * material(materials, which, u, v, spot.level)
        return tone, tone * 0.985, tone * 0.955, min(1.0, snow * (0.5 + 0.9 * big))
    if road.edge < street.pavement + 0.14 + spot.pixel * 0.3:
        return 0.64, 0.64, 0.64 * 0.98, snow * 0.4
    which = kinds.SETTS if street.setts else kinds.ASPHALT
    half_road = street.width * 0.5 - street.pavement
    tone = (0.40 + 0.13 * big - 0.16 * environment.wet) * material(materials, which, u, v, spot.level)
    tone *= 1.0 - 0.1 * math.exp(-((abs(road.across) - half_road * 0.45) ** 2) * 2.0)  # worn by wheels
    if not street.setts:
        tone += (0.86 - tone) * _markings(spot, road, city)
    return tone, tone, tone * 1.01, min(0.85, snow * (0.15 + 0.9 * max(0.0, big - 0.3)))


@kernel
def _markings(spot: Spot, road: Road, city: CityTables) -> float:
    """Strength of the paint on a roadway, 0-1: the middle line of wide streets, and zebra crossings."""
    street = city.streets[road.street]
    line = 0.0
    near_end = min(road.along, street.length - road.along)
    if street.width >= 16 and abs(road.across) < 0.07 + spot.pixel * 0.25 and near_end > street.width * 0.6 + 4:
        line = 0.8 if road.along - 6.0 * math.floor(road.along / 6.0) < 3.0 else 0.0
    zebra = near_end - street.width * 0.5 - 1.2
    half_road = street.width * 0.5 - street.pavement
    if street.crossing and 0.0 < zebra < 2.8 and abs(road.across) < half_road - 0.2:
        line = 0.85 if road.across - 1.0 * math.floor(road.across / 1.0) < 0.5 else 0.0
    if line > 0:
        line *= (0.5 + 0.6 * spot.big) * min(1.0, 30.0 / max(spot.distance, 1.0))
    return line


@kernel
def _open_ground(spot: Spot, kind: int, environment: Environment, light: Light, atlas: Atlas) -> TexturedColour:
    """Colour of the ground within a block, and the snow on it, 0-1."""
    snow, big, x, y = environment.snow, spot.big, spot.x, spot.y
    if kind == kinds.WATER:
        red, green, blue = _water(spot, environment, light, atlas.noise)
        return red, green, blue, 0.0
    if kind == kinds.PARK or kind == kinds.SLABS:
        m = material(atlas.materials, kinds.GRASS, x / SQUARE_M, y / SQUARE_M, spot.level)
        white = min(1.0, snow * (0.7 + 0.8 * big))
        path = abs(noise_at(atlas.noise, x * 2.2 + 91, y * 2.2) - 0.5)
        if path < 0.02 or (kind == kinds.SLABS and big > 0.72):
            return 0.60 * m, 0.55 * m, 0.46 * m, white
        dry = 1.0 - environment.leaves
        red = (0.30 + 0.14 * big + 0.12 * dry) * m
        green = (0.42 + 0.10 * big - 0.03 * dry) * m
        return red, green, (0.16 + 0.06 * big + 0.05 * dry) * m, white
    if kind == kinds.SQUARE:
        tone = (0.50 + 0.12 * big) * material(atlas.materials, kinds.SETTS, x / SQUARE_M, y / SQUARE_M, spot.level)
        return tone * 1.02, tone, tone * 0.95, min(1.0, snow * (0.4 + 0.9 * big))
    tone = 0.45 * material(atlas.materials, kinds.ASPHALT, x / SQUARE_M, y / SQUARE_M, spot.level)
    return tone, tone, tone, snow * 0.8


@kernel
def _water(spot: Spot, environment: Environment, light: Light, noise: Floats32) -> Colour:
    """Waves, which mirror the haze."""
    wave = noise_at(noise, spot.x * 24.0 + environment.sky_x, spot.y * 24.0 * (1 + 4.0 / (1 + spot.distance * 0.05)))
    up = min(1.0, 4.0 / max(spot.distance, 4.0))
    return (
        0.30 - 0.14 * up + 0.16 * (wave - 0.5) + 0.22 * (light.fog_red - 0.5),
        0.37 - 0.14 * up + 0.16 * (wave - 0.5) + 0.24 * (light.fog_green - 0.5),
        0.42 - 0.13 * up + 0.16 * (wave - 0.5) + 0.26 * (light.fog_blue - 0.5),
    )


@kernel
def _sunlight(shade: Floats32, x: float, y: float) -> float:
    """Share of direct sunlight, 0-1, on the ground at x, y metres from the camera; bilinear."""
    half = shade.shape[0] // 2
    si, sj = x / SHADE_M + half, y / SHADE_M + half
    if not (0 <= si < shade.shape[0] - 1 and 0 <= sj < shade.shape[0] - 1):
        return 0.55
    i, j = int(si), int(sj)
    ax, ay = si - i, sj - j
    return (shade[j, i] * (1 - ax) + shade[j, i + 1] * ax) * (1 - ay) + (
        shade[j + 1, i] * (1 - ax) + shade[j + 1, i + 1] * ax
    ) * ay
