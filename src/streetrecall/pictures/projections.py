"""Views of any direction, cut from the frames of one panorama or from an equirectangular picture.

A frame is what an upright pinhole camera sees, so a view is an exact projection of it: two pinhole pictures of one
optical centre differ by a homography. All frames of a panorama have the same centre, so this holds across seams too.
A view is computed at twice its size and averaged down, against aliasing.

Axes of directions: right, down, forward. Pictures are (height, width, 3) uint8; the order of colours does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Maps = tuple[NDArray[np.float32], NDArray[np.float32]]

MAX_FOV_DEG = 120.0  # of the longer side of a view; the maps of a sphere hold half of it
_OVERSAMPLE = 2
_BORDER = 24  # points along each side of a view that are looked up in the frames
_SLACK_PX = 1.0  # a view may leave a frame by so many of the frame's pixels; the edge is repeated there


@dataclass(frozen=True)
class View:
    """The view of a pinhole camera: compass heading of its middle, field of view of its longer side, size in pixels.

    With a positive pitch it looks up; with a positive roll the camera is turned clockwise. Angles are in degrees.
    """

    heading_deg: float
    fov_deg: float
    width: int
    height: int
    pitch_deg: float = 0.0
    roll_deg: float = 0.0

    def rays(self, scale: int = 1) -> Floats:
        """(3, 3): the direction, in upright axes with the heading ahead, of a pixel (column, row, 1).

        Columns and rows are those of the view at ``scale`` times its size.
        """
        focal = max(self.width, self.height) / 2 / math.tan(math.radians(self.fov_deg) / 2) * scale
        middle_x, middle_y = (self.width * scale - 1) / 2, (self.height * scale - 1) / 2
        pixels = np.array([[1, 0, -middle_x], [0, 1, -middle_y], [0, 0, focal]]) / focal
        return tilt(self.pitch_deg, self.roll_deg) @ pixels


def tilt(pitch_deg: float, roll_deg: float) -> Floats:
    """(3, 3): from the axes of a tilted and rolled camera to upright ones."""
    a, b = math.radians(pitch_deg), math.radians(roll_deg)
    up = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    around = np.array([[math.cos(b), -math.sin(b), 0], [math.sin(b), math.cos(b), 0], [0, 0, 1]])
    return np.asarray(up @ around)


class Panorama(Protocol):
    """The pictures of one panorama."""

    def holds(self, view: View) -> bool:
        """Whether the view shows nothing beyond the pictures."""
        ...

    def cut(self, view: View) -> Bytes:
        """The picture of the view. Beyond the pictures their edge is repeated."""
        ...


class Frames:
    """Frames of one panorama: all of one size and field of view, upright, each of another heading.

    Args:
        pictures: (height, width, 3) uint8, one for each of ``headings_deg``.
        fov_deg: from the left edge to the right one.
        horizon: share of the height above the horizon.
    """

    def __init__(self, pictures: Sequence[Bytes], headings_deg: Sequence[float], fov_deg: float, horizon: float):
        self._pictures, self._headings = list(pictures), list(headings_deg)
        height, width = self._pictures[0].shape[:2]
        self._size = width, height
        focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
        self._camera = np.array([[focal, 0, width / 2 - 0.5], [0, focal, height * horizon - 0.5], [0, 0, 1]])

    def holds(self, view: View) -> bool:
        pixels = _border(view)
        rays = view.rays() @ pixels
        nearest = self._closeness(view, rays).argmax(axis=0)
        width, height = self._size
        for k in np.unique(nearest):
            u, v, ahead = self._turn(view, k) @ rays[:, nearest == k]
            if (ahead <= 0).any():
                return False
            fits_x = (u / ahead > -0.5 - _SLACK_PX) & (u / ahead < width - 0.5 + _SLACK_PX)
            fits_y = (v / ahead > -0.5 - _SLACK_PX) & (v / ahead < height - 0.5 + _SLACK_PX)
            if not (fits_x & fits_y).all():
                return False
        return True

    def cut(self, view: View) -> Bytes:
        rays = view.rays(_OVERSAMPLE)
        size = view.width * _OVERSAMPLE, view.height * _OVERSAMPLE
        used = np.unique(self._closeness(view, view.rays() @ _border(view)).argmax(axis=0))
        parts = [
            cv2.warpPerspective(
                self._pictures[k], self._turn(view, k) @ rays, size,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
            )
            for k in used
        ]  # fmt: skip
        whole = parts[0]
        if len(parts) > 1:
            # Closeness is linear in the pixel, up to a factor that is the same for all frames.
            planes = self._closeness(view, rays)[used].astype(np.float32)
            x, y = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
            best = planes[0, 0] * x + planes[0, 1] * y + planes[0, 2]
            for plane, part in zip(planes[1:], parts[1:], strict=True):
                closeness = plane[0] * x + plane[1] * y + plane[2]
                cv2.copyTo(part, (closeness > best).astype(np.uint8), whole)
                np.maximum(best, closeness, out=best)
        return np.asarray(cv2.resize(whole, (view.width, view.height), interpolation=cv2.INTER_AREA), np.uint8)

    def _turn(self, view: View, k: int) -> Floats:
        """(3, 3): from directions with the view's heading ahead to homogeneous pixels of frame ``k``."""
        a = math.radians(view.heading_deg - self._headings[k])
        turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        return np.asarray(self._camera @ turn)

    def _closeness(self, view: View, rays: Floats) -> Floats:
        """(frames, n): larger for frames whose heading is nearer to the azimuth of the directions ``rays`` (3, n)."""
        a = np.radians(np.array(self._headings) - view.heading_deg)
        return np.asarray(np.sin(a)[:, None] * rays[0] + np.cos(a)[:, None] * rays[2])


class Sphere:
    """An equirectangular picture (width / 2, width, 3), whose middle column looks to ``heading_deg``."""

    def __init__(self, picture: Bytes, heading_deg: float = 0.0) -> None:
        self._width = picture.shape[1]
        self._heading = heading_deg
        # Half the width more, so that every half sphere is one piece.
        self._picture = np.concatenate([picture, picture[:, : self._width // 2 + 1]], axis=1)

    def holds(self, view: View) -> bool:
        return True

    def cut(self, view: View, enlarged: int = _OVERSAMPLE) -> Bytes:
        """The picture of the view, computed at ``enlarged`` times its size; 1 is enough where a sphere is coarser."""
        half = self._width // 2
        left = ((view.heading_deg - self._heading) / 360.0 + 0.25) % 1.0 * self._width
        first = min(int(left), self._width - 1)
        x, y = _half_sphere(view.fov_deg, view.width, view.height, view.pitch_deg, view.roll_deg, self._width, enlarged)
        big = cv2.remap(
            self._picture[:, first : first + half + 1], x + np.float32(left - first), y,
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        if enlarged == 1:
            return np.asarray(big, np.uint8)
        return np.asarray(cv2.resize(big, (view.width, view.height), interpolation=cv2.INTER_AREA), np.uint8)

    def is_coarser(self, view: View) -> bool:
        """Whether a pixel of the sphere's equator is nowhere smaller than one of the view.

        A pixel of a view spans the largest angle in its middle.
        """
        focal = max(view.width, view.height) / 2 / math.tan(math.radians(view.fov_deg) / 2)
        return 2 * math.pi / self._width >= 1 / focal


@lru_cache(maxsize=8)
def _half_sphere(
    fov_deg: float, width: int, height: int, pitch_deg: float, roll_deg: float, sphere: int, enlarged: int
) -> Maps:
    """Columns and rows, in a half sphere whose middle is the view's heading, of the pixels of the enlarged view.

    They are computed at half the density and interpolated, which errs by less than a quarter of a pixel.
    """
    rays = View(0.0, fov_deg, width, height, pitch_deg, roll_deg).rays()
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    right, down, ahead = np.tensordot(rays, np.stack([column, row, np.ones_like(row)]).astype(float), axes=1)
    x = np.arctan2(right, ahead) * (sphere / (2 * math.pi)) + sphere / 4 - 0.5
    y = (0.5 + np.arctan2(down, np.hypot(right, ahead)) / math.pi) * (sphere // 2) - 0.5
    size = width * enlarged, height * enlarged
    maps = [cv2.resize(part.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) for part in (x, y)]
    return maps[0], maps[1]


def _border(view: View) -> Floats:
    """(3, n): pixels (column, row, 1) along the outermost rows and columns of a view."""
    x, y = np.linspace(0, view.width - 1, _BORDER), np.linspace(0, view.height - 1, _BORDER)
    top, bottom = np.zeros(_BORDER), np.full(_BORDER, view.height - 1.0)
    left, right = np.zeros(_BORDER), np.full(_BORDER, view.width - 1.0)
    columns, rows = np.concatenate([x, x, left, right]), np.concatenate([top, bottom, y, y])
    return np.stack([columns, rows, np.ones_like(rows)])
