"""What facades, trees and people are made of: small pictures drawn here, with mip maps, for the ray caster to sample.

Everything is drawn from fixed seeds: the city's seed chooses among the textures, it does not change them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from streetrecall.simulator.city import kinds
from streetrecall.simulator.render import tiles
from streetrecall.simulator.render.tables import Atlas, Bytes, Floats, Floats32

MATERIAL = 256  # sides of the textures, texels
CROWN = 256
NOISE = 512
PEOPLE = 8  # how many different people there are
PERSON_H, PERSON_W = 128, 64


def pyramid(picture: Bytes) -> Bytes:
    """A square picture (2^k, 2^k, channels) and its mip maps, each half as large, down to one texel; flat.

    >>> pyramid(np.zeros((4, 4, 2), np.uint8)).shape
    (42,)
    """
    levels = [picture]
    while levels[-1].shape[0] > 1:
        p = levels[-1].astype(np.uint16)
        levels.append(((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2] + 2) // 4).astype(np.uint8))
    return np.concatenate([level.ravel() for level in levels])


def _smooth_noise(rng: np.random.Generator, size: int, cells: int, octaves: int, fall: float = 0.5) -> Floats32:
    """Value noise (size, size), 0-1, that repeats without a seam; each octave is ``fall`` times as strong."""
    total = np.zeros((size, size), dtype=np.float32)
    weight, norm = 1.0, 0.0
    for _ in range(octaves):
        grid = rng.random((cells, cells)).astype(np.float32)
        padded = np.pad(grid, 2, mode="wrap")
        scale = size / cells
        big = cv2.resize(padded, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        edge = round(2 * scale)
        total += weight * big[edge : edge + size, edge : edge + size]
        norm += weight
        weight *= fall
        cells = min(cells * 2, size)
    total /= norm
    return np.asarray((total - total.min()) / (np.ptp(total) + 1e-9), dtype=np.float32)


def _draw_materials() -> list[Floats]:
    """Brightness (1: unchanged) of all materials (MATERIAL, MATERIAL), by their numbers."""
    rng = np.random.default_rng(102)
    n = MATERIAL
    fine = rng.normal(0, 1, (n, n))
    cloud = _smooth_noise(rng, n, 4, 5) - 0.5
    drawn = {kinds.PLASTER: 1 + 0.02 * fine + 0.07 * cloud}
    drawn[kinds.STAINED] = 1 + 0.03 * fine + 0.24 * (_smooth_noise(rng, n, 3, 5) - 0.5)
    drawn[kinds.BRICK] = _bricks(rng) + 0.04 * fine
    drawn[kinds.ASHLAR] = _ashlar(rng) + 0.03 * fine
    drawn[kinds.ASPHALT] = 1 + 0.09 * fine + 0.1 * (_smooth_noise(rng, n, 8, 4) - 0.5)
    drawn[kinds.SETTS] = _setts(rng) + 0.05 * fine
    drawn[kinds.GRASS] = 1 + 0.18 * fine + 0.5 * (_smooth_noise(rng, n, 8, 5) - 0.5)
    drawn[kinds.PAVING] = _paving(rng) + 0.03 * fine
    return [drawn[number] for number in range(len(drawn))]


def _bricks(rng: np.random.Generator) -> Floats:
    """Bricks of 8 x 32 cm with joints, two texels a centimetre."""
    n, course, length = MATERIAL, 16, 64
    brick = np.ones((n, n))
    for r in range(n // course):
        shift = (r % 2) * length // 2
        for c in range(n // length):
            a = (c * length + shift) % n
            brick[r * course : (r + 1) * course, np.arange(a, a + length) % n] = rng.normal(1.0, 0.08)
        brick[r * course : r * course + 3] = 1.14
        brick[r * course : (r + 1) * course, np.arange(shift, n + shift, length) % n] = 1.14
    return brick


def _ashlar(rng: np.random.Generator) -> Floats:
    """Hewn blocks with dark joints."""
    n = MATERIAL
    ashlar = np.ones((n, n))
    for r in range(4):
        for c in range(2):
            a = (c * 128 + (r % 2) * 64) % n
            ashlar[r * 64 : (r + 1) * 64, np.arange(a, a + 128) % n] = rng.normal(1.0, 0.05)
            ashlar[r * 64 : (r + 1) * 64, np.arange(a, a + 4) % n] = 0.7
        ashlar[r * 64 : r * 64 + 4] = 0.7
    return ashlar


def _setts(rng: np.random.Generator) -> Floats:
    """Small paving stones with dark joints."""
    n = MATERIAL
    setts = np.ones((n, n))
    for r in range(16):
        for c in range(16):
            s = (r % 2) * 8
            setts[r * 16 : r * 16 + 16, np.arange(c * 16 + s, c * 16 + s + 16) % n] = rng.normal(1, 0.12)
            setts[r * 16 : r * 16 + 16, np.arange(c * 16 + s, c * 16 + s + 2) % n] = 0.62
        setts[r * 16 : r * 16 + 2] = 0.62
    return setts


def _paving(rng: np.random.Generator) -> Floats:
    """Square slabs with joints."""
    slabs = np.ones((MATERIAL, MATERIAL))
    for r in range(4):
        for c in range(4):
            slabs[r * 64 : r * 64 + 64, c * 64 : c * 64 + 64] = rng.normal(1, 0.04)
    slabs[:, ::64] = 0.78
    slabs[::64] = 0.78
    slabs[:, 1::64] = 0.85
    slabs[1::64] = 0.85
    return slabs


def _branches(
    alpha: Bytes, x: float, y: float, angle: float, length: float, width: float, rng: np.random.Generator
) -> None:
    """Draw a branch that begins at x, y, texels, and what grows from its end."""
    end = (x + length * math.sin(angle), y - length * math.cos(angle))
    cv2.line(
        alpha, (round(x * 16), round(y * 16)), (round(end[0] * 16), round(end[1] * 16)), 255, max(1, round(width)),
        cv2.LINE_AA, 4,
    )  # fmt: skip
    if length < 7:
        return
    for _ in range(3 if length > 18 else 2):
        _branches(alpha, *end, angle + rng.normal(0, 0.5), length * rng.uniform(0.62, 0.82), width * 0.55, rng)


def _draw_crowns() -> list[Bytes]:
    """Crowns (CROWN, CROWN, 2), alpha and brightness: of all kinds with leaves, then of all kinds without."""
    leafy, bare = [], []
    for kind in range(kinds.TREES):
        rng = np.random.default_rng([103, kind])
        leafy.append(_leafy_crown(rng))
        bare.append(_bare_crown(rng))
    return leafy + bare


def _leafy_crown(rng: np.random.Generator) -> Bytes:
    """Clumps of leaves, the dark ones painted first."""
    n = CROWN
    alpha = np.zeros((n, n), np.uint8)
    shade = np.full((n, n), 60, np.uint8)
    narrow = rng.uniform(0.75, 1.0)
    clumps = [
        (
            n / 2 + narrow * n * 0.3 * rng.uniform(-1, 1),
            n * 0.5 + n * 0.3 * rng.uniform(-1, 1),
            n * rng.uniform(0.13, 0.2),
        )
        for _ in range(int(rng.integers(7, 13)))
    ]
    clumps.append((n / 2, n * 0.5, n * 0.24))
    leaves = []
    for cx, cy, r in clumps:
        for _ in range(int(r * r * 0.16)):
            d, a = r * math.sqrt(rng.random()) * 1.08, rng.uniform(0, 2 * math.pi)
            x, y = cx + d * math.cos(a), cy + d * math.sin(a)
            # Light comes from above: the upper side of each clump and of the whole crown is lighter.
            light = 110 - 50 * (y - cy) / r - 45 * (y - n / 2) / (n / 2) + rng.normal(0, 20)
            leaves.append((x, y, float(np.clip(light, 20, 230)), rng.uniform(2.2, 4.6)))
    order = rng.permutation(len(leaves))
    for i in sorted(order.tolist(), key=lambda i: leaves[i][2]):
        x, y, light, size = leaves[i]
        axes = (max(1, round(size)), max(1, round(size * 0.6)))
        centre, turn = (round(x), round(y)), float(rng.uniform(0, 180))
        cv2.ellipse(alpha, centre, axes, turn, 0, 360, 255, -1)
        cv2.ellipse(shade, centre, axes, turn, 0, 360, light, -1)
    return np.dstack([alpha, shade])


def _bare_crown(rng: np.random.Generator) -> Bytes:
    n = CROWN
    alpha = np.zeros((n, n), np.uint8)
    for _ in range(5):
        _branches(alpha, n / 2 + rng.normal(0, 4), n - 1, rng.normal(0, 0.36), n * rng.uniform(0.17, 0.23), 5.0, rng)
    return np.dstack([alpha, np.full((n, n), 100, np.uint8)])


def _draw_people() -> Bytes:
    """Silhouettes (PEOPLE, PERSON_H, PERSON_W, 4): alpha, skin, upper part, lower part."""
    out = np.zeros((PEOPLE, PERSON_H, PERSON_W, 4), np.uint8)
    for k in range(PEOPLE):
        rng = np.random.default_rng([104, k])
        skin, upper, lower = (np.zeros((PERSON_H, PERSON_W), np.uint8) for _ in range(3))
        mid, stride = 32 + int(rng.integers(-3, 4)), int(rng.integers(2, 13))
        for s in (-1, 1):
            cv2.line(lower, (mid + 3 * s, 66), (mid + stride * s, 124), 255, 9, cv2.LINE_AA)
            cv2.line(upper, (mid + 9 * s, 32), (mid + (10 + stride // 3) * s, 66), 255, 6, cv2.LINE_AA)
        coat = int(rng.integers(62, 88))
        cv2.fillPoly(upper, [np.array([[mid - 12, 27], [mid + 12, 27], [mid + 11, coat], [mid - 11, coat]])], 255)
        cv2.circle(upper, (mid, 29), 10, 255, -1, cv2.LINE_AA)
        cv2.circle(skin, (mid, 13), 8, 255, -1, cv2.LINE_AA)
        if rng.random() < 0.7:
            cv2.ellipse(lower, (mid, 10), (8, 7), 0, 180, 360, 255, -1, cv2.LINE_AA)
        if rng.random() < 0.4:
            cv2.rectangle(lower, (mid + 10, 58), (mid + 19, 76), 255, -1)
        lower[upper > 0] = np.minimum(lower, 255 - upper)[upper > 0]
        skin = np.minimum(skin, 255 - lower)
        out[k] = np.dstack([np.maximum(np.maximum(skin, upper), lower), skin, upper, lower])
    return out


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """All textures; they are drawn once per process, in about a second."""
    return Atlas(
        tiles=_pyramids(tiles.draw_tiles()),
        materials=_pyramids([np.clip(m * 128, 0, 255).astype(np.uint8)[..., None] for m in _draw_materials()]),
        crowns=_pyramids(_draw_crowns()),
        people=_draw_people(),
        noise=_smooth_noise(np.random.default_rng(105), NOISE, 8, 6, 0.55),
    )


def _pyramids(pictures: list[Bytes]) -> Bytes:
    return np.concatenate([pyramid(picture) for picture in pictures])
