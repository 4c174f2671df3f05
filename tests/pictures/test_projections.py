"""Views of spheres and frames whose colours are the directions themselves, so that every pixel is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from streetrecall.pictures.projections import Frames, Sphere, View

FOV, HORIZON, WIDTH, HEIGHT = 120.0, 0.448, 1512, 810
HEADINGS = (0.0, 90.0, 180.0, 270.0)


def colours(direction: np.ndarray) -> np.ndarray:
    """(..., 3) uint8: east, north and up, from -1 to 1, as 27 to 227."""
    unit = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    return np.round(127 + 100 * unit).astype(np.uint8)


def sphere(width: int = 2048, middle_deg: float = 0.0) -> np.ndarray:
    azimuth = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi + np.radians(middle_deg)
    elevation = (0.5 - (np.arange(width // 2) + 0.5) / (width // 2))[:, None] * np.pi
    flat = np.cos(elevation)
    up = np.broadcast_to(np.sin(elevation), (width // 2, width))
    return colours(np.stack([flat * np.sin(azimuth), flat * np.cos(azimuth), up], axis=-1))


def pinhole(view: View, horizon: float = 0.5) -> np.ndarray:
    """What an upright camera sees, by its own formula."""
    focal = view.width / 2 / np.tan(np.radians(view.fov_deg) / 2)
    right = np.arange(view.width) + 0.5 - view.width / 2
    up = (view.height * horizon - np.arange(view.height) - 0.5)[:, None]
    a = np.radians(view.heading_deg)
    east, north = right * np.cos(a) + focal * np.sin(a), focal * np.cos(a) - right * np.sin(a)
    return colours(np.stack(np.broadcast_arrays(east, north, up), axis=-1))


def frames(headings: tuple[float, ...] = HEADINGS) -> Frames:
    pictures = [pinhole(View(heading, FOV, WIDTH, HEIGHT), HORIZON) for heading in headings]
    return Frames(pictures, headings, FOV, HORIZON)


def error(picture: np.ndarray, expected: np.ndarray) -> int:
    return int(np.abs(picture.astype(int) - expected.astype(int)).max())


@pytest.mark.parametrize("heading", [0.0, 30.0, 44.9, 45.0, 123.4, 200.0, 315.0, 359.9])
@pytest.mark.parametrize("size", [(224, 224), (256, 192), (96, 128)])
def test_every_pixel_has_the_colour_of_its_direction(heading: float, size: tuple[int, int]) -> None:
    square = View(heading, 60.0, *size)
    focal = max(size) / 2 / np.tan(np.radians(30.0))
    wide = View(heading, float(np.degrees(2 * np.arctan(size[0] / 2 / focal))), *size)
    assert error(Sphere(sphere()).cut(square), pinhole(wide)) <= 2
    assert error(Sphere(sphere(middle_deg=77.0), 77.0).cut(square), pinhole(wide)) <= 2
    assert error(frames().cut(square), pinhole(wide)) <= 2  # seams included


@pytest.mark.parametrize(("pitch", "roll"), [(8.0, 0.0), (-4.0, 0.0), (0.0, 4.0), (5.0, -3.0)])
def test_tilted_and_rolled_views(pitch: float, roll: float) -> None:
    view = View(40.0, 55.0, 161, 121, pitch, roll)
    for panorama in (Sphere(sphere()), frames()):
        picture = panorama.cut(view).astype(float)
        east, north, up = (picture[60, 80] - 127) / 100
        assert np.degrees(np.arcsin(up)) == pytest.approx(pitch, abs=1.0)
        assert np.degrees(np.arctan2(east, north)) == pytest.approx(40.0, abs=1.0)
        # A camera that is turned clockwise has its right side lower than its left one.
        fall = np.degrees(np.arcsin((picture[60, 10, 2] - 127) / 100) - np.arcsin((picture[60, 150, 2] - 127) / 100))
        assert np.sign(round(float(fall))) == np.sign(roll)
    assert error(frames().cut(view), Sphere(sphere()).cut(view)) <= 2


def test_the_seam_is_the_line_between_two_frames() -> None:
    flat = [np.full((HEIGHT, WIDTH, 3), value, np.uint8) for value in (10, 80, 160, 240)]
    panorama = Frames(flat, HEADINGS, FOV, HORIZON)
    for heading, side in ((45.0, 0.0), (30.0, 15.0), (60.0, -15.0)):
        row = panorama.cut(View(heading, 60.0, 224, 224))[100, :, 0]
        seam = 112 + 112 / np.tan(np.radians(30.0)) * np.tan(np.radians(side))
        assert (row[: int(seam)] == 10).all() and (row[int(seam) + 1 :] == 80).all()
    assert (panorama.cut(View(180.0, 60.0, 224, 224)) == 160).all()


def test_what_frames_hold() -> None:
    whole, half = frames(), frames((0.0, 90.0))
    for heading in range(0, 360, 15):
        assert whole.holds(View(heading, 60.0, 224, 224))
    assert whole.holds(View(0.0, 70.0, 224, 224))
    assert not whole.holds(View(45.0, 70.0, 224, 224))  # the sky at the seam is above the frames
    assert not whole.holds(View(0.0, 60.0, 224, 224, pitch_deg=15.0))
    assert half.holds(View(45.0, 60.0, 224, 224)) and half.holds(View(330.0, 40.0, 224, 224))
    assert not half.holds(View(300.0, 60.0, 224, 224)) and not half.holds(View(225.0, 60.0, 224, 224))
    assert Sphere(sphere(256)).holds(View(45.0, 100.0, 224, 224, pitch_deg=30.0))


def test_the_same_bytes_twice() -> None:
    view = View(33.3, 60.0, 224, 224, 2.0, 1.0)
    assert (frames().cut(view) == frames().cut(view)).all()
    assert (Sphere(sphere()).cut(view) == Sphere(sphere()).cut(view)).all()


def test_fifty_views_a_second() -> None:
    panoramas = frames(), Sphere(sphere())
    begun = time.process_time()
    for panorama in panoramas:
        for k in range(50):
            panorama.cut(View(k * 30.0, 60.0, 224, 224))
    assert time.process_time() - begun < 2.0
