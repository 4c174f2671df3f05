"""The sky: a gradient, clouds and the glow around the sun."""

from __future__ import annotations

import math

from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.kernels.sampling import noise_at
from streetrecall.simulator.render.tables import Environment, Floats32


@kernel
def sky(dx: float, dy: float, slope: float, environment: Environment, noise: Floats32) -> tuple[float, float, float]:
    """Colour of the sky in a direction: a unit vector on the ground and a slope upwards."""
    e = environment
    up = max(slope / math.sqrt(1.0 + slope * slope), 0.0)
    root = math.sqrt(up)
    red = 0.72 - 0.42 * root
    green = 0.82 - 0.32 * root
    blue = 0.93 - 0.12 * root
    k = 260.0 / (slope + 0.16)
    n = noise_at(noise, dx * k * 0.5 + e.sky_x, dy * k * 0.5 + e.sky_y)
    n = 0.75 * n + 0.25 * noise_at(noise, dx * k * 1.7 + e.sky_y, dy * k * 1.7 + e.sky_x)
    cover = min(1.0, max(0.0, (n - (0.78 - 0.62 * e.cloud)) / 0.2))
    cover = cover * cover * (3 - 2 * cover)
    white = 0.93 - 0.22 * max(0.0, n - 0.45) * (1.0 + e.cloud) - 0.1 * (e.cloud if e.direct == 0 else 0.0)
    red += (white * 0.985 - red) * cover
    green += (white * 0.99 - green) * cover
    blue += (white * 1.01 - blue) * cover
    if e.direct > 0:
        inv = 1.0 / math.sqrt(1.0 + slope * slope)
        cosine = (dx * e.sun_x + dy * e.sun_y) * inv + slope * inv * e.sun_z
        if cosine > 0.5:
            glow = (cosine - 0.5) * 2
            glow = glow * glow * glow
            glow = glow * glow * 0.5 * e.direct
            red += glow
            green += glow * 0.96
            blue += glow * 0.85
    return red, green, blue
