"""The changed pictures of protocol `perturbed`."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streetrecall.pictures.perturb import CHANGES, COVERED_SHARE, perturb

HEIGHT, WIDTH = 90, 120


def scene() -> np.ndarray:
    """Smooth random colours, so that small shifts change little."""
    noise = np.random.default_rng(1).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("change", CHANGES)
def test_the_seed_decides_and_the_picture_is_left_as_it_is(change: str) -> None:
    picture, before = scene(), scene()
    first, again = perturb(picture, change, 3), perturb(picture, change, 3)
    assert np.array_equal(first, again) and np.array_equal(picture, before)
    assert first.shape != picture.shape or not np.array_equal(first, picture)


def test_zoomed_shows_the_middle() -> None:
    picture = scene()
    zoomed = perturb(picture, "zoomed", 0).astype(float)
    middle = cv2.resize(picture[11:79, 15:105], (WIDTH, HEIGHT)).astype(float)
    assert zoomed.shape == picture.shape
    assert np.abs(zoomed - middle).mean() < 3


def test_right_is_the_right_part() -> None:
    assert np.array_equal(perturb(scene(), "right", 0), scene()[:, WIDTH - 78 :])


def test_rolled_keeps_the_centre_and_turns_to_both_sides() -> None:
    picture = np.zeros((101, 101, 3), np.uint8)
    picture[48:53, 80:85] = 255  # right of the middle
    rows = [np.argwhere(perturb(picture, "rolled", seed)[..., 0] > 128)[:, 0].mean() for seed in range(8)]
    assert min(rows) == pytest.approx(50 - 32 * np.sin(np.radians(10)), abs=0.7)
    assert max(rows) == pytest.approx(50 + 32 * np.sin(np.radians(10)), abs=0.7)


def test_covered_hides_a_fifth() -> None:
    picture = np.full((200, 200, 3), 10, np.uint8)
    for seed in range(4):
        hidden = (perturb(picture, "covered", seed) == 128).all(axis=2).mean()
        assert hidden == pytest.approx(COVERED_SHARE, abs=0.01)


def test_darkened_and_blurred() -> None:
    picture = scene()
    assert perturb(picture, "darkened", 0).mean() == pytest.approx(0.45 * picture.mean(), rel=0.02)
    edge = np.zeros((60, 224, 3), np.uint8)
    edge[:, 112:] = 255
    blurred = perturb(edge, "blurred", 0)[30, :, 0]
    assert 0.1 < blurred[110] / 255 < 0.35 and blurred[100] == 0 and blurred[124] == 255
