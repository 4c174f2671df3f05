"""VLAD: a descriptor of a picture from its SIFT points, without any training of a network.

Jégou et al. 2012, "Aggregating local image descriptors into compact codes": descriptors of points are reduced to their
principal components first. Each centre's residuals get unit norm on their own (Arandjelović and Zisserman 2013, "All
about VLAD").
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from streetrecall.imports import code_digest
from streetrecall.retrieval.points import Pictures, Points, points_of_photos, points_of_views
from streetrecall.scoring.ranking import Ints
from streetrecall.store.results import kept

Floats = NDArray[np.float32]

CHUNK = 256  # descriptors that are kept at a time


def vlad(values: Floats, centres: Floats) -> Floats:
    """The VLAD vector (k * c,) of local descriptors ``values`` (n, c) for ``centres`` (k, c), of unit norm.

    The residuals of a picture's descriptors to their nearest centre are summed, and the sum of each centre gets unit
    norm. A picture without descriptors has a vector of zeros.

    >>> vlad(np.array([[1, 0], [3, 0], [0, 5]], np.float32), np.array([[1, 0], [0, 4]], np.float32)).round(3)
    array([0.707, 0.   , 0.   , 0.707], dtype=float32)
    """
    nearest = (values @ centres.T - 0.5 * (centres**2).sum(axis=1)).argmax(axis=1)
    member = np.zeros((len(centres), len(values)), np.float32)
    member[nearest, np.arange(len(values))] = 1
    residuals = member @ values - member.sum(axis=1, keepdims=True) * centres
    return _unit(_unit(residuals).ravel())


def root_sift(points: Points) -> Floats:
    """The RootSIFT descriptors (n, 128) of ``points``, of unit norm."""
    return points.descriptors.astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class Codebook:
    """What was learnt of RootSIFT descriptors: ``mean`` (128,) and principal ``axes`` (128, c), and ``centres`` (k, c)
    of what they are along these axes."""

    mean: Floats
    axes: Floats
    centres: Floats

    @property
    def dimensions(self) -> int:
        return int(self.centres.size)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all numbers."""
        parts = (np.ascontiguousarray(part, np.float32) for part in (self.mean, self.axes, self.centres))
        return hashlib.sha256(b"".join(str(part.shape).encode() + part.tobytes() for part in parts)).hexdigest()

    def describe(self, points: Points) -> NDArray[np.float16]:
        """The descriptor (k * c,), of unit norm, of a picture with ``points``.

        Of a picture without points all numbers are equal, as in the stage baseline.
        """
        values = ((root_sift(points) - self.mean) @ self.axes).astype(np.float32)
        vector = vlad(values, self.centres)
        return (vector if vector.any() else np.full_like(vector, self.dimensions**-0.5)).astype(np.float16)


def describe_views(codebook: Codebook, pictures: Pictures, most: int) -> NDArray[np.float16]:
    """Descriptors (n, d) of ``pictures``, in order, by the ``most`` strongest points of each.

    Those of an earlier run are kept, and so are the points, which evaluation and bundle use too.

    Raises:
        UserError: a picture cannot be read.
    """

    def points(rows: Ints) -> Iterator[Points]:
        return (packed.points() for packed in points_of_views(pictures, rows, most))

    return _describe(codebook, pictures, points, look="view", most=most)


def describe_photos(codebook: Codebook, pictures: Pictures, most: int, longest_px: int) -> NDArray[np.float16]:
    """As `describe_views`, of photos, which are reduced to ``longest_px`` on their longer side if larger."""

    def points(rows: Ints) -> Iterator[Points]:
        return points_of_photos(Pictures(pictures.folder, pictures.rows.iloc[rows]), most, longest_px)

    return _describe(codebook, pictures, points, look="photo", most=most, longest_px=longest_px)


def _describe(
    codebook: Codebook, pictures: Pictures, points: Callable[[Ints], Iterator[Points]], **facts: str | int
) -> NDArray[np.float16]:
    found = np.empty((len(pictures.rows), codebook.dimensions), np.float16)
    keys = pictures.hashes(np.arange(len(found)))
    libraries = {name: version(name) for name in ("numpy", "opencv-python-headless")}
    with kept("vlad", codebook=codebook.digest, code=code_digest(__name__), libraries=libraries, **facts) as known:
        before = known.read(keys)
        made: dict[str, bytes] = {}
        for row, key in enumerate(keys):
            if key in before:
                found[row] = np.frombuffer(before[key], np.float16)
        new = np.array([row for row, key in enumerate(keys) if key not in before], np.int64)
        for row, one in zip(new.tolist(), points(new), strict=True):
            found[row] = codebook.describe(one)
            made[keys[row]] = found[row].tobytes()
            if len(made) == CHUNK:
                known.write(made)
                made = {}
        known.write(made)
    return found


def _unit(vectors: Floats) -> Floats:
    """``vectors`` (..., d), each divided by its length; a vector of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-12))
