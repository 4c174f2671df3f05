"""Reading textures: hashes, noise, mip levels and materials."""

from __future__ import annotations

import math

from streetrecall.simulator.render import textures
from streetrecall.simulator.render.kernels.options import kernel
from streetrecall.simulator.render.tables import Bytes, Floats32

MATERIAL_STRIDE = (textures.MATERIAL * textures.MATERIAL * 4 - 1) // 3


@kernel
def hash_of(a: int, b: int, c: int) -> float:
    """A number in [0, 1) that depends on three integers."""
    h = (a * 374761393 + b * 668265263 + c * 2147483647 + 974634777) & 0x7FFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
    h = ((h ^ (h >> 15)) * 1103515245 + 12345) & 0x7FFFFFFF
    return (h ^ (h >> 16)) / 2147483648.0


@kernel
def noise_at(noise: Floats32, x: float, y: float) -> float:
    """Noise at a position in texels, bilinear; it repeats beyond its edges."""
    wrap = textures.NOISE - 1  # a power of two less one
    fx, fy = math.floor(x), math.floor(y)
    ax, ay = x - fx, y - fy
    i, j = int(fx) & wrap, int(fy) & wrap
    k, m = (i + 1) & wrap, (j + 1) & wrap
    return (noise[j, i] * (1 - ax) + noise[j, k] * ax) * (1 - ay) + (noise[m, i] * (1 - ax) + noise[m, k] * ax) * ay


@kernel
def mip_level(texels: float, size: int) -> tuple[int, int]:
    """Offset in texels, and side, of the mip level at which a pixel that covers ``texels`` covers about one."""
    offset, side = 0, size
    while texels > 1.42 and side > 1:
        offset += side * side
        side //= 2
        texels *= 0.5
    return offset, side


@kernel
def material(materials: Bytes, which: int, x: float, y: float, level: tuple[int, int]) -> float:
    """A material's brightness (1: unchanged) at x, y in units of its square: the nearest texel of a mip level."""
    offset, side = level
    i = math.floor((x - math.floor(x)) * side)
    j = math.floor((y - math.floor(y)) * side)
    if i >= side:
        i = side - 1
    if j >= side:
        j = side - 1
    return materials[which * MATERIAL_STRIDE + offset + j * side + i] / 128.0
