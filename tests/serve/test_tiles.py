"""Vector tiles: every point is in the tile where it lies, and no tile is large."""

from __future__ import annotations

import numpy as np
import pytest

from streetrecall.serve.tiles import CELLS, DEEPEST, EXTENT, MOST_POINTS, Points, mercator, neighbours


def number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes):
    """Fields of a message of protocol buffers: number and content."""
    at = 0
    while at < len(data):
        tag, at = number(data, at)
        size, at = number(data, at)
        if tag & 7 == 2:
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            yield tag >> 3, size


def read(tile: bytes) -> dict[str, list[tuple[dict, list[int]]]]:
    """Layers of a tile: attributes and geometry of each feature."""
    out: dict[str, list[tuple[dict, list[int]]]] = {}
    for _, layer in fields(tile):
        parts = list(fields(layer))
        keys = [v.decode() for n, v in parts if n == 3]
        values = [next(iter(fields(v))) for n, v in parts if n == 4]
        name = next(v for n, v in parts if n == 1).decode()
        assert {n: v for n, v in parts if n in (5, 15)} == {5: EXTENT, 15: 2}
        for feature in (dict(fields(v)) for n, v in parts if n == 2):
            tags, geometry = (numbers(feature.get(n, b"")) for n in (2, 4))
            attributes = {keys[k]: values[v][1] for k, v in zip(tags[::2], tags[1::2], strict=True)}
            out.setdefault(name, []).append((attributes, geometry))
    return out


def numbers(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = number(data, at)
        found.append(value)
    return found


def signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


@pytest.fixture(scope="module")
def town():
    rng = np.random.default_rng(4)
    lat, lon = rng.uniform(59.30, 59.34, 5000), rng.uniform(18.00, 18.10, 5000)
    return lat, lon, Points(np.arange(5000), lat, lon, ["test"] * 5000)


def test_each_point_is_in_its_tile_at_its_place(town):
    lat, lon, points = town
    x, y = mercator(lat, lon)
    scale = 2**DEEPEST
    for i in range(0, 5000, 250):
        column, row = int(x[i] * scale), int(y[i] * scale)
        found = {a["place"]: g for a, g in read(points.tile(DEEPEST, column, row))["places"]}
        command, across, down = found[i]
        assert command == 9
        assert signed(across) == pytest.approx((x[i] * scale - column) * EXTENT, abs=1)
        assert signed(down) == pytest.approx((y[i] * scale - row) * EXTENT, abs=1)


def test_a_crowded_tile_counts_its_points(town):
    lat, lon, points = town
    x, y = mercator(lat, lon)
    column, row = int(x[0] * 2**9), int(y[0] * 2**9)
    inside = ((x * 2**9).astype(int) == column) & ((y * 2**9).astype(int) == row)
    assert inside.sum() > MOST_POINTS
    features = read(points.tile(9, column, row))["places"]
    assert len(features) <= CELLS**2
    assert sum(attributes["count"] for attributes, _ in features) == inside.sum()


def test_a_tile_without_points_is_empty(town):
    assert town[2].tile(10, 0, 0) == b""
    assert Points(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), []).tile(0, 0, 0) == b""


def test_streets_join_what_follows_one_another():
    """Two streets of ten points, 20 apart within and 200 between them."""
    x = np.tile(np.arange(10) * 20.0, 2)
    y = np.repeat([0.0, 200.0], 10)
    assert neighbours(x, y).tolist() == [[i, i + 1] for i in [*range(9), *range(10, 19)]]
    lat, lon = 59.3 + y / 1e6, 18.0 + x / 1e6
    order = np.argsort(mercator(lat, lon)[0], kind="stable")
    points = Points(np.arange(20), lat[order], lon[order], ["test"] * 20)
    ((_, geometry),) = read(points.tile(14, int((18 / 360 + 0.5) * 2**14), int(mercator(lat, lon)[1][0] * 2**14)))[
        "streets"
    ]
    assert len(geometry) == 18 * 6
