"""Points as vector tiles (Mapbox Vector Tile 2.1), so that a map of hundreds of thousands of points stays fast.

A tile with many points holds one point for each of its cells, with their number, in place of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EXTENT = 4096
MOST_POINTS = 1200  # in one tile; more are put together by cells
CELLS = 32  # along a side of a tile
DEEPEST = 17  # zoom at which every point is shown by itself; closer zooms use its tiles
PLACES, STREETS = "places", "streets"  # layers
NEAREST = 4  # points that a point may be joined to by a street


class Points:
    """Points with a number and a label each, ready to be cut into tiles."""

    def __init__(
        self, number: NDArray[np.int64], lat: NDArray[np.float64], lon: NDArray[np.float64], label: Sequence[str]
    ) -> None:
        x, y = mercator(lat, lon)
        order = np.argsort(x, kind="stable")
        self.x, self.y, self.number = x[order], y[order], number[order]
        self.names, codes = np.unique(np.asarray(label, dtype=object).astype(str), return_inverse=True)
        self.codes = codes[order]
        self.streets = neighbours(self.x, self.y)
        self.longest = float(np.ptp(self.x[self.streets], axis=1).max(initial=0.0))

    def tile(self, zoom: int, column: int, row: int) -> bytes:
        """The tile ``column``, ``row`` of ``zoom``; empty bytes where there is nothing."""
        scale = 2**zoom
        margin = 1 / 16
        low, high = np.searchsorted(self.x, [(column - margin) / scale, (column + 1 + margin) / scale])
        y = self.y[low:high] * scale - row
        inside = np.flatnonzero((y >= -margin) & (y < 1 + margin)) + low
        if not len(inside):
            return self._streets(zoom, column, row)
        x = (self.x[inside] * scale - column) * EXTENT
        y = (self.y[inside] * scale - row) * EXTENT
        if len(inside) > MOST_POINTS and zoom < DEEPEST:
            return self._cells(x, y)
        label = self.codes[inside]
        values = [string_value(name) for name in self.names] + [int_value(int(n)) for n in self.number[inside]]
        tags = np.column_stack(
            [np.zeros(len(x), int), label, np.ones(len(x), int), len(self.names) + np.arange(len(x))]
        )
        return self._streets(zoom, column, row) + layer(
            PLACES, points(x.round().astype(int), y.round().astype(int), tags), ["split", "place"], values
        )

    def _streets(self, zoom: int, column: int, row: int) -> bytes:
        """Lines between places that follow one another, as far as they come near the tile."""
        scale, margin = 2**zoom, 1 / 16
        sides = [(column - margin) / scale - self.longest, (column + 1 + margin) / scale]
        low, high = np.searchsorted(self.streets[:, 0], np.searchsorted(self.x, sides))
        pairs = self.streets[low:high]
        ends = np.stack([self.x[pairs] * scale - column, self.y[pairs] * scale - row], axis=2)
        near = ((ends.max(axis=1) > -margin) & (ends.min(axis=1) < 1 + margin)).all(axis=1)
        if not near.any():
            return b""
        return layer(STREETS, lines((ends[near] * EXTENT).round().astype(np.int64)), [], [])

    def _cells(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> bytes:
        """One point for each cell, in the middle of its points, with their number; without the margin's points."""
        own = (x >= 0) & (x < EXTENT) & (y >= 0) & (y < EXTENT)
        x, y = x[own], y[own]
        cell = (y * CELLS // EXTENT).astype(int) * CELLS + (x * CELLS // EXTENT).astype(int)
        _, group, count = np.unique(cell, return_inverse=True, return_counts=True)
        middle = [(np.bincount(group, weights=v) / count).round().astype(int) for v in (x, y)]
        numbers, which = np.unique(count, return_inverse=True)
        tags = np.column_stack([np.zeros(len(count), int), which])
        return layer(PLACES, points(middle[0], middle[1], tags), ["count"], [int_value(int(n)) for n in numbers])


def neighbours(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pairs (m, 2) of points that follow one another along a street, sorted; x and y (n,) are Web Mercator.

    Each point is joined to its nearest ones, unless a third point lies between them (a Gabriel graph of near points).
    A gap of more than three times the usual distance is no street.
    """
    try:
        from scipy.spatial import cKDTree
    except ImportError:  # not needed to answer photos, so it may be missing; then no streets are drawn
        return np.zeros((0, 2), np.int64)
    if len(x) < 3:
        return np.zeros((0, 2), np.int64)
    xy = np.column_stack([x, y])
    tree = cKDTree(xy)
    away, near = tree.query(xy, min(NEAREST + 1, len(x)))
    first = np.repeat(np.arange(len(x)), near.shape[1] - 1)
    second, length = near[:, 1:].ravel(), away[:, 1:].ravel()
    kept = (first < second) & (length > 0) & (length <= 3 * np.median(away[:, 1]))
    pairs = np.unique(np.column_stack([first[kept], second[kept]]), axis=0)
    middle = (xy[pairs[:, 0]] + xy[pairs[:, 1]]) / 2
    half = np.hypot(*(xy[pairs[:, 0]] - xy[pairs[:, 1]]).T) / 2
    return pairs[tree.query(middle)[0] >= half * (1 - 1e-6)].astype(np.int64)


def mercator(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Web Mercator positions in 0-1, from the north-west corner of the world.

    >>> [float(v) for v in mercator(np.array(0.0), np.array(0.0))]
    [0.5, 0.5]
    """
    sine = np.clip(np.sin(np.radians(lat)), -0.9999, 0.9999)
    return np.asarray(lon) / 360 + 0.5, 0.5 - np.log((1 + sine) / (1 - sine)) / (4 * np.pi)


def varint(number: int) -> bytes:
    """A whole number as protocol buffers write it.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A field of protocol buffers with a length: a message, a text or packed numbers."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def string_value(text: str) -> bytes:
    return field(1, text.encode())


def int_value(number: int) -> bytes:
    return varint(4 << 3) + varint(number & 0xFFFFFFFFFFFFFFFF)


def zigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Signed numbers as protocol buffers count them: 0, -1, 1, -2 as 0, 1, 2, 3."""
    return (values << 1) ^ (values >> 63)


def points(x: NDArray[np.int64], y: NDArray[np.int64], tags: NDArray[np.int64]) -> bytes:
    """Features of points at ``x``, ``y`` (n,); ``tags`` (n, 2 k) are pairs of a key's and a value's number."""
    features = bytearray()
    move_to_one = varint(1 | 1 << 3)
    for across, down, pairs in zip(zigzag(x).tolist(), zigzag(y).tolist(), tags.tolist(), strict=True):
        packed = b"".join(map(varint, pairs))
        geometry = move_to_one + varint(across) + varint(down)
        features += field(2, field(2, packed) + b"\x18\x01" + field(4, geometry))
    return bytes(features)


def lines(ends: NDArray[np.int64]) -> bytes:
    """A feature of straight lines between ``ends`` (n, 2, 2)."""
    flat = ends.reshape(-1, 2)
    steps = zigzag(np.diff(flat, axis=0, prepend=np.zeros((1, 2), np.int64)))
    geometry = bytearray()
    move_to_one, line_to_one = varint(1 | 1 << 3), varint(2 | 1 << 3)
    for number, (across, down) in enumerate(steps.tolist()):
        geometry += (line_to_one if number % 2 else move_to_one) + varint(across) + varint(down)
    return field(2, b"\x18\x02" + field(4, bytes(geometry)))


def layer(name: str, features: bytes, keys: list[str], values: list[bytes]) -> bytes:
    """A layer of a tile."""
    content = field(1, name.encode()) + features
    content += b"".join(field(3, key.encode()) for key in keys)
    content += b"".join(field(4, value) for value in values)
    return field(3, content + varint(5 << 3) + varint(EXTENT) + varint(15 << 3) + varint(2))
