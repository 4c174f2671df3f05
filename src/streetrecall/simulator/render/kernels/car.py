"""Parked cars: boxes with a roof line, windows and wheels.

A car's own axes are metres ahead of its middle and to the left of it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from streetrecall.simulator.render.kernels.light import Colour, haze_at
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.rays import sunlight_at
from streetrecall.simulator.render.kernels.view import Ray, View, height_at, put, row_at
from streetrecall.simulator.render.tables import ESTATE, VAN, Camera, Floats

Record = Any  # one row of a record array
KNOTS = 4  # a roof line bends at most so often
NO_KNOT = -2.0
WHEEL = 0.105  # square of a wheel's radius, square metres


class CarLight(NamedTuple):
    """What of the light a car shows."""

    above: float  # on its top
    beside: float  # on its sides
    haze: float  # 0-1


@kernel
def _axes(car: Record, x: float, y: float) -> tuple[float, float]:
    """A vector, metres east and north, in the car's own axes."""
    return x * car.cos + y * car.sin, -x * car.sin + y * car.cos


@kernel
def car_span(car: Record, x: float, y: float, dx: float, dy: float) -> tuple[float, float]:
    """Distances at which a ray enters and leaves a car's outline; where it misses, the first is not the smaller one."""
    ahead, left = _axes(car, x - car.x, y - car.y)
    step_ahead, step_left = _axes(car, dx, dy)
    near, far = -1e9, 1e9
    if abs(step_ahead) > 1e-9:
        a, b = (-car.half_length - ahead) / step_ahead, (car.half_length - ahead) / step_ahead
        near, far = max(near, min(a, b)), min(far, max(a, b))
    elif abs(ahead) > car.half_length:
        return 1e9, -1e9
    if abs(step_left) > 1e-9:
        a, b = (-car.half_width - left) / step_left, (car.half_width - left) / step_left
        near, far = max(near, min(a, b)), min(far, max(a, b))
    elif abs(left) > car.half_width:
        return 1e9, -1e9
    return near, far


@kernel
def paint_car(view: View, ray: Ray, number: int, near: float, far: float, knots: Floats) -> None:
    """Paint a car that a ray enters and leaves at these distances. ``knots`` is room for KNOTS + 2 numbers."""
    _, camera, _, scene, light = view
    car = scene.cars[number]
    sunlit = 0.55
    if light.direct > 0:
        sunlit = sunlight_at(scene.shade, car.x - camera.x, car.y - camera.y, 0.55)
    shown = CarLight(
        light.ambient * 1.08 + light.direct * sunlit * light.sun_z,
        light.ambient * 0.82 + light.direct * sunlit * 0.35,
        haze_at(near, light),
    )
    _darken_below(view, ray, near, far)
    _paint_top(view, ray, car, near, far, knots, shown)
    _paint_side(view, ray, car, near, shown)


@kernel
def _darken_below(view: View, ray: Ray, near: float, far: float) -> None:
    """The shadow under a car."""
    image, camera = view.image, view.camera
    first, end = int(row_at(0.0, far, ray, camera)), int(row_at(0.0, near, ray, camera))
    for row in range(max(0, first), min(camera.lens.rows, end)):
        for channel in range(3):
            image[ray.column, row, channel] = np.uint8(image[ray.column, row, channel] * 0.35)


@kernel
def _on_ray(car: Record, ray: Ray, distance: float, camera: Camera) -> tuple[float, float]:
    """A point of a ray in the car's own axes."""
    return _axes(car, camera.x + ray.dx * distance - car.x, camera.y + ray.dy * distance - car.y)


@kernel
def _paint_top(view: View, ray: Ray, car: Record, near: float, far: float, knots: Floats, shown: CarLight) -> None:
    """The top is a plane between each two knots of the roof line: paint these from far to near."""
    camera, above = view.camera, shown.above
    for q in range(_fill_knots(car, ray, near, far, knots, camera) - 1, 0, -1):
        ahead_near, ahead_far = _on_ray(car, ray, knots[q - 1], camera)[0], _on_ray(car, ray, knots[q], camera)[0]
        row_near = math.floor(row_at(_roof_line(ahead_near, car)[0], knots[q - 1], ray, camera) + 0.5)
        row_far = math.floor(row_at(_roof_line(ahead_far, car)[0], knots[q], ray, camera) + 0.5)
        if _roof_line(0.5 * (ahead_near + ahead_far), car)[1]:
            colour = (0.20 * above, 0.24 * above, 0.28 * above)
        else:
            colour = ((car.red + 0.03) * above, (car.green + 0.03) * above, (car.blue + 0.035) * above)
        for row in range(max(0, min(row_far, row_near)), min(camera.lens.rows, max(row_near, row_far))):
            put(view, ray, row, colour, shown.haze)


@kernel
def _fill_knots(car: Record, ray: Ray, near: float, far: float, knots: Floats, camera: Camera) -> int:
    """Fill in where a ray enters a car, passes the knots of its roof line and leaves it; returns how many there are."""
    ahead = _axes(car, camera.x - car.x, camera.y - car.y)[0]
    step = _axes(car, ray.dx, ray.dy)[0]
    count = 2
    knots[0], knots[1] = near, far
    for q in range(KNOTS):
        knot = _knot(car.kind, q)
        if knot == NO_KNOT or abs(step) < 1e-6:
            continue
        distance = (knot * car.half_length - ahead) / step
        if near < distance < far:
            at = count
            while at > 0 and knots[at - 1] > distance:
                knots[at] = knots[at - 1]
                at -= 1
            knots[at] = distance
            count += 1
    return count


@kernel
def _knot(kind: int, q: int) -> float:
    """Where a roof line bends for the q-th time, in half lengths ahead of the middle, or NO_KNOT."""
    if kind == VAN:
        return 0.86 if q == 0 else 0.55 if q == 1 else NO_KNOT
    if kind == ESTATE:
        return 0.5 if q == 0 else 0.12 if q == 1 else -0.8 if q == 2 else NO_KNOT
    return 0.5 if q == 0 else 0.14 if q == 1 else -0.4 if q == 2 else -0.72


@kernel
def _roof_line(ahead: float, car: Record) -> tuple[float, bool]:
    """Height of the roof line, metres, and whether it is glass there."""
    s = ahead / car.half_length
    if car.kind == VAN:
        if s > 0.86:
            return 1.05, False
        if s > 0.55:
            return 1.05 + (0.86 - s) / 0.31 * 0.95, True
        return 2.0, False
    if car.kind == ESTATE:
        if s > 0.5:
            return 0.78 + 0.14 * (1.0 - (s - 0.5) * 2), False
        if s > 0.12:
            return 0.92 + (0.5 - s) / 0.38 * 0.56, True
        if s > -0.8:
            return 1.48, False
        return 0.95 + (s + 1.0) / 0.2 * 0.53, True
    if s > 0.5:
        return 0.76 + 0.14 * (1.0 - (s - 0.5) * 2), False
    if s > 0.14:
        return 0.9 + (0.5 - s) / 0.36 * 0.52, True
    if s > -0.4:
        return 1.42, False
    if s > -0.72:
        return 0.96 + (s + 0.72) / 0.32 * 0.46, True
    return 0.94, False


@kernel
def _paint_side(view: View, ray: Ray, car: Record, near: float, shown: CarLight) -> None:
    """The side or end at which a ray enters."""
    camera = view.camera
    ahead, left = _on_ray(car, ray, near, camera)
    top = _roof_line(ahead, car)[0]
    at_end = abs(ahead) > car.half_length * 0.995
    first = math.floor(row_at(top, near, ray, camera) + 0.5)
    end = max(int(row_at(0.18, near, ray, camera)) + 1, int(row_at(0.0, near, ray, camera)))
    for row in range(max(0, first), min(camera.lens.rows, end)):
        z = height_at(row, near, ray, camera)
        if z < (0.2 if at_end else 0.22) and (at_end or _wheel(ahead, z, car) >= WHEEL):
            continue  # below the body
        red, green, blue = _end_colour(ahead, left, z, car) if at_end else _side_colour(ahead, z, top, car)
        colour = (red * shown.beside, green * shown.beside, blue * shown.beside)
        put(view, ray, row, colour, shown.haze)


@kernel
def _end_colour(ahead: float, left: float, z: float, car: Record) -> Colour:
    """Front or rear: lights, number plate, grille and window."""
    aside = abs(left) / car.half_width
    if ahead > 0 and 0.55 < z < 0.72 and aside > 0.6:
        return 0.92, 0.92, 0.88
    if ahead < 0 and 0.6 < z < 0.85 and aside > 0.68:
        return 0.6, 0.06, 0.06
    if 0.32 < z < 0.46 and aside < 0.28:
        return 0.85, 0.85, 0.85
    if z < 0.5 and ahead > 0 and aside < 0.5:
        return car.red * 0.35, car.green * 0.35, car.blue * 0.35
    if z > 0.95:
        return 0.16, 0.19, 0.22
    return car.red, car.green, car.blue


@kernel
def _side_colour(ahead: float, z: float, top: float, car: Record) -> Colour:
    """Wheels, windows between pillars, sill and body."""
    wheel = _wheel(ahead, z, car)
    if wheel < WHEEL:
        tone = 0.45 if wheel < 0.035 else 0.07
        return tone, tone, tone
    half = car.half_length
    if 0.93 < z < top - 0.07 and car.kind != VAN and abs(ahead + 0.1 * half) < 0.56 * half:
        if abs(ahead + 0.08 * half) < 0.06:
            return car.red, car.green, car.blue
        return 0.15, 0.18, 0.21
    if car.kind == VAN and 1.1 < z < 1.75 and ahead > 0.25 * half:
        return 0.15, 0.18, 0.21
    paint = 0.4 if z < 0.34 else 0.82 + 0.25 * (z - 0.3)
    return car.red * paint, car.green * paint, car.blue * paint


@kernel
def _wheel(ahead: float, z: float, car: Record) -> float:
    """Square of the distance from the nearer hub, square metres."""
    front, rear = ahead - 0.62 * car.half_length, ahead + 0.62 * car.half_length
    return min(front * front, rear * rear) + (z - 0.31) ** 2
