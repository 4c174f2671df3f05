"""What facades, trees and people are made of: small pictures drawn here, with mip maps, for the ray caster to sample.

A facade tile is one bay of one floor, 128 x 128 texels, top row first, in five channels of weights: trim, frame,
glass, iron (0-255, the rest is wall) and shade (128: unchanged). Buildings bring their own colours, so one tile serves
many. Everything is drawn from fixed seeds: the city's seed chooses among tiles, it does not change them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats32 = NDArray[np.float32]

TILE = 128
TILE_CHANNELS = 5
TRIM, FRAME, GLASS, IRON, SHADE = range(5)

CLASSIC = list(range(0, 22))
MODERN = list(range(22, 34))
BALCONIES = list(range(34, 42))
SHOPS = list(range(42, 54))
BASEMENTS = list(range(54, 60))
DOORS = list(range(60, 66))
DORMERS = list(range(66, 70))
PLAIN = 70
TILES = 71

PLASTER, STAINED, BRICK, ASHLAR, ASPHALT, SETTS, GRASS, SLABS_GROUND = range(8)
MATERIALS = 8
MATERIAL = 256

CROWNS = 6
CROWN = 256
PEOPLE = 8
PERSON_H, PERSON_W = 128, 64
NOISE = 512


class Atlas(NamedTuple):
    """All textures, flat, as the ray caster takes them."""

    tiles: Bytes
    materials: Bytes
    crowns: Bytes  # leafy kinds, then the same bare: alpha and shade
    people: Bytes  # (PEOPLE, PERSON_H, PERSON_W, 4): alpha, skin, upper, lower
    noise: Floats32  # (NOISE, NOISE) tileable, 0-1


def pyramid(picture: Bytes) -> Bytes:
    """A square picture (2^k, 2^k, channels) and its halvings down to one texel, flat.

    >>> pyramid(np.zeros((4, 4, 2), np.uint8)).shape
    (42,)
    """
    levels = [picture]
    while levels[-1].shape[0] > 1:
        p = levels[-1].astype(np.uint16)
        levels.append(((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2] + 2) // 4).astype(np.uint8))
    return np.concatenate([level.ravel() for level in levels])


class _Tile:
    """Drawing on one tile in metres-free units: 0-1 from left to right and from top to bottom."""

    def __init__(self) -> None:
        self.w = np.zeros((TILE, TILE, 4), dtype=np.float64)
        self.shade = np.ones((TILE, TILE))

    def box(self, channel: int, x0: float, y0: float, x1: float, y1: float) -> None:
        """A rectangle of one material in place of what was there."""
        a, b = round(x0 * TILE), max(round(x1 * TILE), round(x0 * TILE) + 1)
        c, d = round(y0 * TILE), max(round(y1 * TILE), round(y0 * TILE) + 1)
        self.w[c:d, a:b] = 0
        if channel >= 0:
            self.w[c:d, a:b, channel] = 1

    def dim(self, factor: float, x0: float, y0: float, x1: float, y1: float) -> None:
        a, b, c, d = round(x0 * TILE), round(x1 * TILE), round(y0 * TILE), round(y1 * TILE)
        self.shade[c:d, a:b] *= factor

    def arch(self, channel: int, x0: float, x1: float, y: float, rise: float) -> None:
        """Fill what lies above an arch of ``rise`` over the opening x0-x1 whose springing is at y."""
        xs = np.arange(TILE) / TILE
        inside = (xs > x0) & (xs < x1)
        mid, half = (x0 + x1) / 2, (x1 - x0) / 2
        top = y - rise * np.sqrt(np.clip(1 - ((xs - mid) / half) ** 2, 0, 1))
        for i in np.flatnonzero(inside):
            lo, hi = round((y - rise) * TILE), round(top[i] * TILE)
            self.w[max(0, lo) : hi, i] = 0
            if channel >= 0:
                self.w[max(0, lo) : hi, i, channel] = 1

    def window(
        self, x0: float, y0: float, x1: float, y1: float, columns: int, transom: float, bars: int, surround: float
    ) -> None:
        """An opening: surround, sash, ``columns`` lights, glazing bars and a transom at that share of the height."""
        if surround > 0:
            self.box(TRIM, x0 - surround, y0 - surround * 1.1, x1 + surround, y1 + surround * 0.5)
        self.dim(0.72, x0 - surround, y1 + surround * 0.5, x1 + surround, y1 + surround * 0.5 + 0.03)
        self.box(FRAME, x0, y0, x1, y1)
        f = 0.018
        w = (x1 - x0 - f) / columns
        for c in range(columns):
            a, b = x0 + f + c * w, x0 + (c + 1) * w
            rows = [(y0 + f, y1 - f)]
            if transom > 0:
                split = y0 + (y1 - y0) * transom
                rows = [(y0 + f, split - f / 2), (split + f / 2, y1 - f)]
            for lo, hi in rows:
                self.box(GLASS, a, lo, b, hi)
            for k in range(bars):
                y = rows[-1][0] + (rows[-1][1] - rows[-1][0]) * (k + 1) / (bars + 1)
                self.box(FRAME, a, y - 0.005, b, y + 0.005)
        self.dim(0.62, x0, y0, x1, y0 + 0.035)
        self.dim(0.8, x0, y0, x0 + 0.025, y1)
        self.box(TRIM, x0 - 0.02 - surround / 2, y1, x1 + 0.02 + surround / 2, y1 + 0.025)

    def bytes(self) -> Bytes:
        out = np.empty((TILE, TILE, TILE_CHANNELS), dtype=np.uint8)
        out[..., :4] = np.round(self.w * 255)
        out[..., 4] = np.clip(np.round(self.shade * 128), 0, 255)
        return out


def _classic(rng: np.random.Generator) -> _Tile:
    t = _Tile()
    width, top, bottom = rng.uniform(0.32, 0.52), rng.uniform(0.16, 0.26), rng.uniform(0.76, 0.88)
    columns = int(rng.choice([1, 2, 2, 2, 3]))
    transom = float(rng.choice([0.0, 0.28, 0.32, 0.36]))
    bars = int(rng.choice([0, 0, 1, 2]))
    surround = float(rng.choice([0.0, 0.0, 0.03, 0.05, 0.07]))
    pair = rng.random() < 0.2
    arched = rng.random() < 0.16
    if pair:
        for x in (0.1, 0.54):
            t.window(x, top, x + 0.34, bottom, 2 if columns > 1 else 1, transom, bars, surround * 0.7)
    else:
        x0, x1 = 0.5 - width / 2, 0.5 + width / 2
        t.window(x0, top, x1, bottom, columns, transom, bars, surround)
        if arched:
            t.arch(TRIM if surround > 0 else -1, x0 - 0.01, x1 + 0.01, top + 0.12, 0.13)
        elif surround > 0.04:
            kind = rng.integers(0, 3)
            if kind == 0:  # straight hood
                t.box(TRIM, x0 - 0.1, top - 0.13, x1 + 0.1, top - 0.08)
                t.dim(0.7, x0 - 0.1, top - 0.08, x1 + 0.1, top - 0.055)
            elif kind == 1:  # pediment
                for k in range(10):
                    half = (x1 - x0 + 0.2) / 2 * (1 - k / 10)
                    t.box(TRIM, 0.5 - half, top - 0.08 - 0.011 * (k + 1), 0.5 + half, top - 0.08 - 0.011 * k)
                t.dim(0.72, x0 - 0.1, top - 0.08, x1 + 0.1, top - 0.06)
    if rng.random() < 0.25:
        t.box(TRIM, 0, 0.97, 1, 1.0)
        t.dim(0.8, 0, 0.0, 1, 0.025)
    return t


def _modern(rng: np.random.Generator) -> _Tile:
    t = _Tile()
    kind = rng.integers(0, 4)
    if kind == 0:  # ribbon
        y0, y1 = rng.uniform(0.2, 0.3), rng.uniform(0.68, 0.8)
        t.window(0.0, y0, 1.0, y1, int(rng.integers(2, 5)), float(rng.choice([0.0, 0.3])), 0, 0.0)
    elif kind == 1:  # wide window with a narrow side light
        x0 = rng.uniform(0.1, 0.2)
        t.window(x0, 0.25, 0.85, 0.78, int(rng.choice([2, 3])), 0.0, 0, 0.0)
    elif kind == 2:  # square hole
        a = rng.uniform(0.5, 0.64)
        t.window(0.5 - a / 2, 0.22, 0.5 + a / 2, 0.22 + a, int(rng.choice([1, 2])), 0.0, 0, 0.0)
    else:  # tall and narrow, in pairs, with a panel
        t.box(IRON, 0.16, 0.12, 0.84, 0.9)
        t.window(0.18, 0.14, 0.5, 0.88, 1, float(rng.choice([0.0, 0.7])), 0, 0.0)
        t.window(0.52, 0.14, 0.82, 0.88, 1, float(rng.choice([0.0, 0.7])), 0, 0.0)
    if rng.random() < 0.4:
        t.dim(0.85, 0, 0.0, 1, 0.02)
        t.dim(0.85, 0, 0.0, 0.015, 1)
    return t


def _balcony(rng: np.random.Generator) -> _Tile:
    t = _Tile()
    w = rng.uniform(0.7, 0.98)
    x0, x1 = 0.5 - w / 2, 0.5 + w / 2
    t.window(0.3, 0.14, 0.52, 0.95, 1, float(rng.choice([0.0, 0.75])), 0, 0.0)
    t.window(0.52, 0.14, 0.76, 0.66, int(rng.choice([1, 2])), 0.0, 0, 0.0)
    t.dim(0.62, x0, 0.04, x1, 0.3)
    t.dim(0.8, x0, 0.3, x1, 0.6)
    kind = rng.integers(0, 3)
    top = 0.6
    if kind == 0:  # bars
        for k in range(18):
            x = x0 + (x1 - x0) * k / 17
            t.box(IRON, x - 0.006, top, x + 0.006, 0.93)
        t.box(IRON, x0, top - 0.012, x1, top + 0.012)
    elif kind == 1:  # solid front
        t.box(TRIM, x0, top, x1, 0.93)
        t.dim(0.9, x0, 0.75, x1, 0.93)
    else:  # glass or sheet in a frame
        t.box(FRAME, x0, top, x1, 0.93)
        for k in range(5):
            x = x0 + (x1 - x0) * k / 4
            t.box(IRON, x - 0.008, top, x + 0.008, 0.93)
    t.box(TRIM, x0, 0.93, x1, 1.0)
    t.dim(0.55, x0, 0.0, x1, 0.045)
    return t


def _shop(rng: np.random.Generator) -> _Tile:
    t = _Tile()
    kind = rng.integers(0, 4)
    top, bottom = rng.uniform(0.24, 0.34), rng.uniform(0.8, 0.93)
    if kind < 2:
        a = rng.uniform(0.05, 0.14)
        t.box(IRON, a - 0.02, top - 0.03, 1 - a + 0.02, 1.0)
        t.box(FRAME, a, bottom, 1 - a, 0.99)
        t.window(a, top, 1 - a, bottom, int(rng.integers(1, 4)), float(rng.choice([0.0, 0.22])), 0, 0.0)
    elif kind == 2:  # window and door
        t.box(FRAME, 0.08, top, 0.94, 1.0)
        t.box(GLASS, 0.1, top + 0.03, 0.58, bottom)
        t.box(GLASS, 0.66, top + 0.03, 0.9, 0.9)
        t.dim(0.7, 0.62, top, 0.94, 1.0)
    else:  # arched opening
        t.window(0.14, top, 0.86, bottom, 2, 0.3, 0, 0.03)
        t.arch(-1, 0.12, 0.88, top + 0.2, 0.22)
    t.dim(0.6, 0.05, top, 0.95, top + 0.04)
    return t


def _basement(rng: np.random.Generator) -> _Tile:
    t = _Tile()
    kind = rng.integers(0, 3)
    if kind == 0:
        t.window(0.3, 0.24, 0.7, 0.66, 2, 0.0, int(rng.integers(0, 2)), 0.03)
        t.window(0.34, 0.82, 0.66, 0.95, 1, 0.0, 0, 0.0)
    elif kind == 1:
        t.window(0.26, 0.22, 0.74, 0.7, 2, 0.3, 0, 0.0)
        for k in range(6):
            t.box(TRIM, 0, 0.1 + 0.15 * k, 1, 0.105 + 0.15 * k)
    else:
        t.window(0.3, 0.2, 0.7, 0.6, 2, 0.0, 1, 0.0)
    t.box(TRIM, 0, 0.8, 1, 0.83)
    t.dim(0.82, 0, 0.83, 1, 1.0)
    return t


def _door(rng: np.random.Generator) -> _Tile:
    t = _Tile()
    wide = rng.uniform(0.36, 0.6)
    x0, x1 = 0.5 - wide / 2, 0.5 + wide / 2
    top = rng.uniform(0.22, 0.34)
    s = rng.choice([0.0, 0.05, 0.08])
    if s:
        t.box(TRIM, x0 - s, top - s, x1 + s, 1)
    t.box(FRAME, x0, top, x1, 1)
    t.box(GLASS, x0 + 0.03, top + 0.02, x1 - 0.03, top + 0.14)
    if rng.random() < 0.6:
        t.box(IRON, 0.495, top + 0.16, 0.505, 1)
        for a, b in ((x0 + 0.05, 0.47), (0.53, x1 - 0.05)):
            t.box(GLASS if rng.random() < 0.5 else FRAME, a, top + 0.22, b, 0.66)
            t.dim(0.8, a, 0.7, b, 0.92)
    t.dim(0.66, x0, top, x1, top + 0.05)
    t.dim(0.75, x0, top, x0 + 0.04, 1)
    if rng.random() < 0.4:
        t.arch(TRIM if s else -1, x0 - 0.01, x1 + 0.01, top + 0.16, 0.17)
    t.box(TRIM, x0 - 0.06, 0.965, x1 + 0.06, 1)
    return t


def _dormer(rng: np.random.Generator) -> _Tile:
    t = _Tile()
    w = rng.uniform(0.26, 0.44)
    t.box(TRIM, 0.5 - w / 2 - 0.06, 0.3, 0.5 + w / 2 + 0.06, 0.36)
    t.window(0.5 - w / 2, 0.38, 0.5 + w / 2, 0.86, int(rng.choice([1, 2])), 0.0, 0, 0.03)
    t.dim(0.8, 0.5 + w / 2 + 0.03, 0.38, 0.5 + w / 2 + 0.1, 0.9)
    return t


def _draw_tiles() -> Bytes:
    makers = {
        _classic: CLASSIC, _modern: MODERN, _balcony: BALCONIES, _shop: SHOPS, _basement: BASEMENTS, _door: DOORS,
        _dormer: DORMERS,
    }  # fmt: skip
    numbered = [(maker, number) for maker, numbers in makers.items() for number in numbers]
    out = [pyramid(maker(np.random.default_rng([101, number])).bytes()) for maker, number in numbered]
    out.append(pyramid(_Tile().bytes()))
    return np.concatenate(out)


def _smooth_noise(rng: np.random.Generator, size: int, cells: int, octaves: int, fall: float = 0.5) -> Floats32:
    """Tileable value noise, 0-1."""
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


def _draw_materials() -> Bytes:
    n = MATERIAL
    rng = np.random.default_rng(102)
    out = []
    fine = rng.normal(0, 1, (n, n))
    cloud = _smooth_noise(rng, n, 4, 5) - 0.5
    out.append(1 + 0.02 * fine + 0.07 * cloud)  # plaster
    out.append(1 + 0.03 * fine + 0.24 * (_smooth_noise(rng, n, 3, 5) - 0.5))  # stained
    brick = np.ones((n, n))
    course, length = 16, 64  # texels: 8 x 32 cm, two texels a centimetre
    for r in range(n // course):
        shift = (r % 2) * length // 2
        for c in range(n // length):
            a = (c * length + shift) % n
            brick[r * course : (r + 1) * course, np.arange(a, a + length) % n] = rng.normal(1.0, 0.08)
        brick[r * course : r * course + 3] = 1.14
        brick[r * course : (r + 1) * course, np.arange(shift, n + shift, length) % n] = 1.14
    out.append(brick + 0.04 * fine)
    ashlar = np.ones((n, n))
    for r in range(4):
        for c in range(2):
            a = (c * 128 + (r % 2) * 64) % n
            ashlar[r * 64 : (r + 1) * 64, np.arange(a, a + 128) % n] = rng.normal(1.0, 0.05)
            ashlar[r * 64 : (r + 1) * 64, np.arange(a, a + 4) % n] = 0.7
        ashlar[r * 64 : r * 64 + 4] = 0.7
    out.append(ashlar + 0.03 * fine)
    out.append(1 + 0.09 * fine + 0.1 * (_smooth_noise(rng, n, 8, 4) - 0.5))  # asphalt
    setts = np.ones((n, n))
    for r in range(16):
        for c in range(16):
            s = (r % 2) * 8
            setts[r * 16 : r * 16 + 16, np.arange(c * 16 + s, c * 16 + s + 16) % n] = rng.normal(1, 0.12)
            setts[r * 16 : r * 16 + 16, np.arange(c * 16 + s, c * 16 + s + 2) % n] = 0.62
        setts[r * 16 : r * 16 + 2] = 0.62
    out.append(setts + 0.05 * fine)
    out.append(1 + 0.18 * fine + 0.5 * (_smooth_noise(rng, n, 8, 5) - 0.5))  # grass
    slabs = np.ones((n, n))
    for r in range(4):
        for c in range(4):
            slabs[r * 64 : r * 64 + 64, c * 64 : c * 64 + 64] = rng.normal(1, 0.04)
    slabs[:, ::64] = 0.78
    slabs[::64] = 0.78
    slabs[:, 1::64] = 0.85
    slabs[1::64] = 0.85
    out.append(slabs + 0.03 * fine)
    return np.concatenate([pyramid(np.clip(m * 128, 0, 255).astype(np.uint8)[..., None]) for m in out])


def _branches(
    alpha: Bytes, x: float, y: float, angle: float, length: float, width: float, rng: np.random.Generator
) -> None:
    end = (x + length * math.sin(angle), y - length * math.cos(angle))
    cv2.line(
        alpha, (round(x * 16), round(y * 16)), (round(end[0] * 16), round(end[1] * 16)), 255, max(1, round(width)),
        cv2.LINE_AA, 4,
    )  # fmt: skip
    if length < 7:
        return
    for _ in range(3 if length > 18 else 2):
        _branches(alpha, *end, angle + rng.normal(0, 0.5), length * rng.uniform(0.62, 0.82), width * 0.55, rng)


def _draw_crowns() -> Bytes:
    leafy, bare = [], []
    n = CROWN
    for kind in range(CROWNS):
        rng = np.random.default_rng([103, kind])
        alpha = np.zeros((n, n), np.uint8)
        shade = np.full((n, n), 60, np.uint8)
        narrow = rng.uniform(0.75, 1.0)
        clumps = int(rng.integers(7, 13))
        centres = [
            (
                n / 2 + narrow * n * 0.3 * rng.uniform(-1, 1),
                n * 0.5 + n * 0.3 * rng.uniform(-1, 1),
                n * rng.uniform(0.13, 0.2),
            )
            for _ in range(clumps)
        ]
        centres.append((n / 2, n * 0.5, n * 0.24))
        leaves = []
        for cx, cy, r in centres:
            for _ in range(int(r * r * 0.16)):
                d, a = r * math.sqrt(rng.random()) * 1.08, rng.uniform(0, 2 * math.pi)
                x, y = cx + d * math.cos(a), cy + d * math.sin(a)
                # Lit from above: the upper side of each clump and of the whole crown is lighter.
                light = 110 - 50 * (y - cy) / r - 45 * (y - n / 2) / (n / 2) + rng.normal(0, 20)
                leaves.append((x, y, float(np.clip(light, 20, 230)), rng.uniform(2.2, 4.6)))
        order = rng.permutation(len(leaves))
        for i in sorted(order.tolist(), key=lambda i: leaves[i][2]):
            x, y, light, size = leaves[i]
            axes = (max(1, round(size)), max(1, round(size * 0.6)))
            centre, turn = (round(x), round(y)), float(rng.uniform(0, 180))
            cv2.ellipse(alpha, centre, axes, turn, 0, 360, 255, -1)
            cv2.ellipse(shade, centre, axes, turn, 0, 360, light, -1)
        leafy.append(np.dstack([alpha, shade]))
        alpha = np.zeros((n, n), np.uint8)
        for _ in range(5):
            _branches(
                alpha, n / 2 + rng.normal(0, 4), n - 1, rng.normal(0, 0.36), n * rng.uniform(0.17, 0.23), 5.0, rng
            )
        bare.append(np.dstack([alpha, np.full((n, n), 100, np.uint8)]))
    return np.concatenate([pyramid(p) for p in leafy + bare])


def _draw_people() -> Bytes:
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
    """All textures; drawn once per process, in about a second."""
    rng = np.random.default_rng(105)
    return Atlas(
        _draw_tiles(), _draw_materials(), _draw_crowns(), _draw_people(), _smooth_noise(rng, NOISE, 8, 6, 0.55)
    )
