"""The ray caster: one column of the picture after the other, over upright walls, cut-outs and cars.

A level camera sees upright walls in upright columns. So each column needs one ray through the plan of the city, and
then paints what that ray meets, from far to near; the height on a wall follows from the slope of the row. The same code
draws views in perspective and equirectangular panoramas, which differ only in the slopes of rows and columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streetrecall.simulator.city import kinds
from streetrecall.simulator.render.kernels.car import KNOTS, car_span, paint_car
from streetrecall.simulator.render.kernels.ground import paint_ground
from streetrecall.simulator.render.kernels.light import light_of
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.rays import REACH_M, Hits, visible_walls
from streetrecall.simulator.render.kernels.sky import sky
from streetrecall.simulator.render.kernels.sprite import paint_sprite
from streetrecall.simulator.render.kernels.view import Ray, View, put, row_at, row_of, slope_of
from streetrecall.simulator.render.kernels.wall import paint_wall
from streetrecall.simulator.render.tables import Bytes, Camera, CityTables, Floats, Ints, Scene

MAX_WALLS = 512  # along one ray
MAX_THINGS = 900  # along one ray, walls among them
NOWHERE = 1e9
WALL, SPRITE, CAR = range(3)


class Things(NamedTuple):
    """Room for all that one ray meets."""

    distance: Floats  # metres
    kind: Ints  # WALL, SPRITE or CAR
    number: Ints  # row of its table
    detail: Floats  # wall: 0-1 along it; sprite: metres from its middle; car: distance at which the ray leaves it


class Scratch(NamedTuple):
    """Room that a picture needs while it is drawn."""

    hits: Hits
    things: Things
    knots: Floats


def scratch() -> Scratch:
    """Room for one picture. Python makes it: compiled code allocates no memory, see `options`."""
    hits = Hits(np.empty(MAX_WALLS), np.empty(MAX_WALLS, np.int64), np.empty(MAX_WALLS))
    things = Things(
        np.empty(MAX_THINGS), np.empty(MAX_THINGS, np.int64), np.empty(MAX_THINGS, np.int64), np.empty(MAX_THINGS)
    )
    return Scratch(hits, things, np.empty(KNOTS + 2))


@kernel
def cast(image: Bytes, camera: Camera, city: CityTables, scene: Scene, room: Scratch) -> None:
    """Draw a picture into ``image`` (columns, rows, 3), uint8."""
    view = View(image, camera, city, scene, light_of(scene.environment, city.atlas.noise))
    hits, things, knots = room
    for column in range(image.shape[0]):
        ray = Ray(column, camera.dx[column], camera.dy[column], camera.stretch[column])
        walls = visible_walls(camera.x, camera.y, ray.dx, ray.dy, camera.z, city, hits)
        nearest = _nearest_house(hits, walls, city)
        count = _collect(view, ray, hits, walls, nearest, things)
        _paint_background(view, ray, hits, walls, nearest)
        for i in range(count):
            distance, number, detail = things.distance[i], things.number[i], things.detail[i]
            if things.kind[i] == WALL:
                paint_wall(view, ray, number, distance, detail)
            elif things.kind[i] == SPRITE:
                paint_sprite(view, ray, number, distance, detail)
            else:
                paint_car(view, ray, number, distance, detail, knots)


@kernel
def _nearest_house(hits: Hits, walls: int, city: CityTables) -> float:
    """Distance of the nearest wall of a house, metres."""
    nearest = NOWHERE
    for k in range(walls):
        if city.walls.kind[hits.wall[k]] <= kinds.PARTY:
            nearest = min(nearest, hits.distance[k])
    return nearest


@kernel
def _collect(view: View, ray: Ray, hits: Hits, walls: int, nearest: float, things: Things) -> int:
    """Fill ``things`` with what the ray meets, far to near; returns their number."""
    _, camera, _, scene, _ = view
    count = 0
    for k in range(walls):
        count = _append(things, count, hits.distance[k], WALL, hits.wall[k], hits.along[k])
    far = NOWHERE if walls == 0 else REACH_M
    for k in range(scene.sprites.shape[0]):
        sprite = scene.sprites[k]
        px, py = sprite.x - camera.x, sprite.y - camera.y
        distance = px * ray.dx + py * ray.dy
        if distance < 0.7 or distance > far:
            continue
        offset = -px * ray.dy + py * ray.dx
        # Only what is tall can be seen behind a house: trees, not people.
        if abs(offset) < sprite.half_width and not (distance > nearest and sprite.top < 5):
            count = _append(things, count, distance, SPRITE, k, offset)
    for k in range(scene.cars.shape[0]):
        near, leave = car_span(scene.cars[k], camera.x, camera.y, ray.dx, ray.dy)
        if near < leave and near > 0.6 and near < nearest:
            count = _append(things, count, near, CAR, k, leave)
    _sort(things, count)
    return count


@kernel
def _append(things: Things, count: int, distance: float, kind: int, number: int, detail: float) -> int:
    if count >= MAX_THINGS - 10:
        return count
    things.distance[count], things.kind[count] = distance, kind
    things.number[count], things.detail[count] = number, detail
    return count + 1


@kernel
def _sort(things: Things, count: int) -> None:
    """Insertion sort, far to near; equally far things keep their order."""
    for a in range(1, count):
        distance, kind, number, detail = things.distance[a], things.kind[a], things.number[a], things.detail[a]
        b = a
        while b > 0 and things.distance[b - 1] < distance:
            things.distance[b], things.kind[b] = things.distance[b - 1], things.kind[b - 1]
            things.number[b], things.detail[b] = things.number[b - 1], things.detail[b - 1]
            b -= 1
        things.distance[b], things.kind[b], things.number[b], things.detail[b] = distance, kind, number, detail


@kernel
def _paint_background(view: View, ray: Ray, hits: Hits, walls: int, nearest: float) -> None:
    """Paint the sky, the haze at the horizon and the ground, as far as houses do not hide them."""
    _, camera, city, scene, light = view
    rows = camera.lens.rows
    horizon = int(row_of(0.0, camera.lens))
    sky_to, ground_from = horizon, horizon
    for k in range(walls):
        w = hits.wall[k]
        if city.walls.kind[w] <= kinds.PARTY:
            sky_to = min(sky_to, int(row_at(city.walls.eaves[w], hits.distance[k], ray, camera)) + 2)
    if nearest < 1e8:
        ground_from = max(horizon, int(row_at(0.0, nearest, ray, camera)) - 1)
    for row in range(min(rows, max(sky_to, 0))):
        slope = slope_of(row, camera.lens) * ray.stretch
        colour = sky(ray.dx, ray.dy, max(slope, 0.0), scene.environment, city.atlas.noise)
        put(view, ray, row, colour, 0.0)
    for row in range(max(0, min(sky_to, horizon)), min(rows, max(ground_from, horizon))):
        put(view, ray, row, (light.fog_red, light.fog_green, light.fog_blue), 0.0)
    paint_ground(view, ray, ground_from)
