"""Light and haze."""

from __future__ import annotations

import math
from typing import NamedTuple

from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.sky import sky
from streetrecall.simulator.render.tables import Environment, Floats32

Colour = tuple[float, float, float]


class Light(NamedTuple):
    """The light of one picture."""

    sun_x: float  # unit vector to the sun
    sun_y: float
    sun_z: float
    flat_x: float  # its direction on the ground, a unit vector
    flat_y: float
    tan_up: float  # tangent of the sun's elevation
    direct: float  # strength of direct sunlight
    ambient: float  # strength of the sky's light
    sun_red: float  # colour of direct sunlight
    sun_green: float
    sun_blue: float
    sky_red: float  # colour of the sky's light
    sky_green: float
    sky_blue: float
    fog_red: float  # colour of far things
    fog_green: float
    fog_blue: float
    haze: float
    exposure: float  # 8-bit levels for brightness 1


@kernel
def light_of(environment: Environment, noise: Floats32) -> Light:
    """The light that an environment gives."""
    e = environment
    flat = math.sqrt(e.sun_x * e.sun_x + e.sun_y * e.sun_y)
    flat_x, flat_y, tan_up = e.sun_x / max(flat, 1e-9), e.sun_y / max(flat, 1e-9), e.sun_z / max(flat, 1e-9)
    overcast = e.direct == 0
    # Haze has the horizon's colour in every direction.
    red, green, blue = sky(flat_x, flat_y, 0.03, e, noise)
    return Light(
        e.sun_x, e.sun_y, e.sun_z, flat_x, flat_y, tan_up, e.direct, e.ambient,
        1.0 + e.warm, 0.97, 0.9 - e.warm,
        1.0 if overcast else 0.96, 1.0, 1.0 if overcast else 1.06,
        0.5 * red + 0.42, 0.5 * green + 0.43, 0.5 * blue + 0.44,
        e.haze, e.exposure * 255.0,
    )  # fmt: skip


@kernel
def lit(red: float, green: float, blue: float, ambient: float, direct: float, light: Light) -> Colour:
    """A colour under so much of the sky's light and of direct sunlight."""
    return (
        red * (ambient * light.sky_red + direct * light.sun_red),
        green * (ambient * light.sky_green + direct * light.sun_green),
        blue * (ambient * light.sky_blue + direct * light.sun_blue),
    )


@kernel
def snowed(red: float, green: float, blue: float, snow: float) -> Colour:
    """A colour under so much snow, 0-1."""
    return red + (0.90 - red) * snow, green + (0.92 - green) * snow, blue + (0.95 - blue) * snow


@kernel
def haze_at(distance: float, light: Light) -> float:
    """How much of what is seen at a distance (metres) is haze, 0-1."""
    return 1.0 - math.exp(-distance * light.haze * 0.006)
