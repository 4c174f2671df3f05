"""SIFT points of pictures, and the points of views as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from streetrecall.parallel import map_in_order
from streetrecall.pictures.photo import reduce_to
from streetrecall.pictures.shards import ShardReader
from streetrecall.scoring.ranking import Ints

if TYPE_CHECKING:  # a bundle finds points without them
    import pandas as pd

    from streetrecall.store.results import Results

Found = TypeVar("Found")
Member = TypeVar("Member")

CHUNK = 32  # pictures that a process reads at a time
FEW = 200  # so few pictures are not worth the start of processes
CONTRAST = 0.02  # OpenCV's default is 0.04; phone photos and reduced views have weaker points
POINT_STEPS = 64  # positions of points are multiples of this part of a pixel
PACKED_SIZE = 64  # bytes of a point's descriptor that is stored
_SQUARES = (np.arange(16, dtype=np.float32) / 15) ** 2
_STEPS = np.dtype("<u2")
_POINT = 2 * _STEPS.itemsize + PACKED_SIZE  # bytes of a stored point


@dataclass(frozen=True)
class Points:
    """Key points: ``xy`` (n, 2) float32, pixels; ``descriptors`` (n, 128) uint8, 255 times RootSIFT of unit norm."""

    xy: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


@dataclass(frozen=True)
class PackedPoints:
    """Key points as they are stored: ``steps`` (n, 2), positions in parts of a pixel, and ``packed`` (n, 64)."""

    steps: NDArray[np.uint16]
    packed: NDArray[np.uint8]

    @staticmethod
    def of(points: Points) -> PackedPoints:
        return PackedPoints(np.round(points.xy * POINT_STEPS).astype(_STEPS), pack(points.descriptors))

    @staticmethod
    def from_bytes(data: bytes) -> PackedPoints:
        count = len(data) // _POINT
        steps = np.frombuffer(data, _STEPS, 2 * count).reshape(count, 2)
        return PackedPoints(steps, np.frombuffer(data, np.uint8, offset=steps.nbytes).reshape(count, PACKED_SIZE))

    def to_bytes(self) -> bytes:
        return self.steps.tobytes() + self.packed.tobytes()

    def points(self) -> Points:
        return Points(self.steps.astype(np.float32) / np.float32(POINT_STEPS), unpack(self.packed))


@dataclass(frozen=True)
class Pictures:
    """Pictures in shards below ``folder``; ``rows`` (n rows) has the columns shard, offset, size and sha256."""

    folder: Path
    rows: pd.DataFrame

    def members(self, rows: Ints) -> list[tuple[str, int, int]]:
        """Shard, offset and size of some of the pictures."""
        chosen = self.rows.iloc[rows]
        return list(zip(chosen["shard"], chosen["offset"].tolist(), chosen["size"].tolist(), strict=True))

    def hashes(self, rows: Ints) -> list[str]:
        """SHA-256 of the files of some of the pictures."""
        return [str(digest) for digest in self.rows["sha256"].iloc[rows]]


def find_points(picture: NDArray[np.uint8], most: int) -> Points:
    """The ``most`` strongest SIFT points of ``picture`` (h, w, 3) RGB, with RootSIFT descriptors (Arandjelović and
    Zisserman 2012, "Three things everyone should know to improve object retrieval")."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(nfeatures=most, contrastThreshold=CONTRAST)  # type: ignore[attr-defined]
    keys, values = sift.detectAndCompute(grey, None)
    if values is None:
        return Points(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    # As a bundle stores them, so that its answers are those of the evaluation.
    xy = np.round(np.array([key.pt for key in keys[:most]], np.float32) * POINT_STEPS) / np.float32(POINT_STEPS)
    root = np.sqrt(values[:most] / np.maximum(values[:most].sum(axis=1, keepdims=True), 1e-6))
    return Points(xy, np.round(root * 255).astype(np.uint8))


def pack(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Descriptors (n, 128) of points in half the space, (n, 64): the square root of each number in four bits.

    The points of the gallery are stored so. Photos were recognised as often as with whole numbers.
    """
    codes = np.round(np.sqrt(descriptors / np.float32(255)) * 15).astype(np.uint8)
    return np.asarray(codes[:, 0::2] << 4 | codes[:, 1::2], np.uint8)


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Descriptors (n, 128), again of length 255, from those of `pack` (n, 64)."""
    codes = np.empty((len(packed), 2 * packed.shape[1]), np.uint8)
    codes[:, 0::2], codes[:, 1::2] = packed >> 4, packed & 15
    values = _SQUARES[codes]
    length = np.sqrt(np.einsum("ij,ij->i", values, values))
    return np.round(values * (255 / np.maximum(length, 1e-6))[:, None]).astype(np.uint8)


def points_of_photos(pictures: Pictures, most: int, longest_px: int) -> Iterator[Points]:
    """The points of all ``pictures``, reduced to ``longest_px`` on their longer side if larger, on all cores.

    Raises:
        UserError: a picture cannot be read.
    """
    find = partial(_of_photos, pictures.folder, most, longest_px)
    yield from _in_chunks(find, pictures.members(np.arange(len(pictures.rows))))


def points_of_views(pictures: Pictures, rows: Ints, most: int) -> Iterator[PackedPoints]:
    """The points of some of ``pictures``, in the order of ``rows``, computed on all cores or kept from an earlier run.

    Raises:
        UserError: a picture cannot be read.
    """
    from streetrecall.imports import code_digest
    from streetrecall.store.results import kept

    code = code_digest(__name__)
    with kept("points", most=most, code=code, opencv=cv2.__version__, numpy=np.__version__) as known:
        members = list(zip(pictures.hashes(rows), pictures.members(rows), strict=True))
        yield from _in_chunks(partial(_of_views, pictures.folder, most, known), members)


def _in_chunks(find: Callable[[Sequence[Member]], list[Found]], members: list[Member]) -> Iterator[Found]:
    from streetrecall.progress import progress  # its import takes longer than a bundle's answer

    parts = [members[start : start + CHUNK] for start in range(0, len(members), CHUNK)]
    with progress(len(members), "points", "picture") as bar:
        for part in map_in_order(find, parts, use_processes=len(members) > FEW):
            yield from part
            bar.update(len(part))


def _of_photos(folder: Path, most: int, longest_px: int, members: Sequence[tuple[str, int, int]]) -> list[Points]:
    cv2.setNumThreads(1)
    with ShardReader(folder) as reader:
        return [find_points(reduce_to(reader.read_picture(*member), longest_px), most) for member in members]


def _of_views(
    folder: Path, most: int, known: Results, members: Sequence[tuple[str, tuple[str, int, int]]]
) -> list[PackedPoints]:
    cv2.setNumThreads(1)
    before = known.read(digest for digest, _ in members)
    made: dict[str, bytes] = {}
    found = []
    with ShardReader(folder) as reader:
        for digest, member in members:
            data = before.get(digest)
            if data is None:
                data = PackedPoints.of(find_points(reader.read_picture(*member), most)).to_bytes()
                made[digest] = data
            found.append(PackedPoints.from_bytes(data))
    known.write(made)
    return found
