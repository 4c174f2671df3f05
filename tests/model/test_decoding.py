"""Pictures come decoded, in order and ahead of time; a broken one is named; no shard stays open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from streetrecall import tables
from streetrecall.errors import UserError

pytest.importorskip("keras")

from streetrecall.model import decoding

AHEAD = """
import sys, time
from streetrecall.model import runtime
runtime.configure(2, 1)
import cv2, numpy as np
from streetrecall.model import decoding

class Counting(list):
    taken = 0
    def __getitem__(self, position):
        Counting.taken += 1
        return super().__getitem__(position)

jpeg = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
data = decoding.batches(Counting([jpeg] * 64), 32, 4, 2)
next(data)
deadline = time.monotonic() + 20
while Counting.taken < 12 and time.monotonic() < deadline:
    time.sleep(0.01)
data.close()  # a pipeline that still runs when the process ends may keep it from ending
sys.exit(Counting.taken < 12)  # the batch that was taken, and the two that wait
"""


@pytest.fixture
def jpegs() -> list[bytes]:
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8), (32, 32)) for _ in range(7)]
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]


def test_pictures_come_in_order_in_full_batches(jpegs: list[bytes]) -> None:
    found = list(decoding.batches(jpegs, 32, 3, 2))
    assert [count for _, count in found] == [3, 3, 1]
    assert all(pixels.shape == (3, 32, 32, 3) for pixels, _ in found)
    pixels = np.concatenate([pixels[:count] for pixels, count in found])
    assert np.array_equal(pixels, [decoding.decode(jpeg, 32) for jpeg in jpegs])
    assert not found[-1][0][1:].numpy().any()


def test_pictures_are_read_ahead_although_ops_are_deterministic() -> None:
    """In a process of its own: determinism is a process's, and cannot be taken back."""
    subprocess.run([sys.executable, "-c", AHEAD], check=True, timeout=120)


def test_what_is_no_jpeg_is_named(jpegs: list[bytes]) -> None:
    jpegs[4] = b"not a picture"
    with pytest.raises(UserError, match=r"picture 4 .* is no JPEG"):
        list(decoding.batches(jpegs, 32, 3, 2))


def test_no_shard_stays_open_when_the_pictures_have_been_read(tiny_crops: Path) -> None:
    """TensorFlow never releases what it reads from: a city would have thousands of open shards."""
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    pictures = decoding.Pictures(tiny_crops, images)
    first = [pixels.numpy() for pixels, _ in decoding.batches(pictures, 64, 32, 2)]
    assert pictures._reader._open == {}
    assert pictures[0]
    assert pictures._reader._open
    assert all(np.array_equal(a, b) for a, (b, _) in zip(first, decoding.batches(pictures, 64, 32, 2), strict=True))
    assert pictures._reader._open == {}
