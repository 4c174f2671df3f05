"""Facade tiles: windows, balconies, shop fronts, doors and dormers.

A tile is one bay of one floor, 128 x 128 texels, top row first, in five channels: weights of trim, frame, glass and
iron (0-255; the rest is wall) and shade (128: unchanged). Buildings bring their own colours, so one tile serves many.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streetrecall.simulator.city import kinds

Bytes = NDArray[np.uint8]

TILE = 128
TILE_CHANNELS = 5
TRIM, FRAME, GLASS, IRON = range(4)


class _Tile:
    """One tile to draw on. Positions are 0-1 from left to right and from top to bottom."""

    def __init__(self) -> None:
        self.w = np.zeros((TILE, TILE, 4), dtype=np.float64)
        self.shade = np.ones((TILE, TILE))

    def box(self, channel: int, x0: float, y0: float, x1: float, y1: float) -> None:
        """A rectangle of one channel (-1: wall) in place of what was there."""
        a, b = round(x0 * TILE), max(round(x1 * TILE), round(x0 * TILE) + 1)
        c, d = round(y0 * TILE), max(round(y1 * TILE), round(y0 * TILE) + 1)
        self.w[c:d, a:b] = 0
        if channel >= 0:
            self.w[c:d, a:b, channel] = 1

    def dim(self, factor: float, x0: float, y0: float, x1: float, y1: float) -> None:
        """Multiply the shade of a rectangle by a factor."""
        a, b, c, d = round(x0 * TILE), round(x1 * TILE), round(y0 * TILE), round(y1 * TILE)
        self.shade[c:d, a:b] *= factor

    def arch(self, channel: int, x0: float, x1: float, y: float, rise: float) -> None:
        """Fill what is above an arch over the opening from x0 to x1; it begins at y and rises by ``rise``."""
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
        """A window with a surround, ``columns`` panes beside each other, bars, and a transom (0-1 from the top)."""
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
        """The tile (TILE, TILE, TILE_CHANNELS)."""
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


_MAKERS: dict[Callable[[np.random.Generator], _Tile], list[int]] = {
    _classic: kinds.CLASSIC, _modern: kinds.MODERN, _balcony: kinds.BALCONIES, _shop: kinds.SHOPS,
    _basement: kinds.BASEMENTS, _door: kinds.DOORS, _dormer: kinds.DORMERS,
}  # fmt: skip


def draw_tiles() -> list[Bytes]:
    """All tiles (TILE, TILE, TILE_CHANNELS), by their numbers in `streetrecall.simulator.city.kinds`."""
    drawn = {n: make(np.random.default_rng([101, n])) for make, numbers in _MAKERS.items() for n in numbers}
    drawn[kinds.PLAIN] = _Tile()
    return [drawn[n].bytes() for n in range(len(drawn))]
