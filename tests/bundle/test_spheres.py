"""A 360-degree picture is asked in all directions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streetrecall.bundle.answer import SPHERE_VIEWS, Bundle, look_around
from streetrecall.pictures.photo import Photo, read_photo


def sphere() -> np.ndarray:
    """Every column has the colour of its azimuth."""
    turn = np.arange(2048) / 2048 * 2 * np.pi
    row = np.stack([127 + 100 * np.sin(turn), 127 + 100 * np.cos(turn), np.full(2048, 90.0)], axis=1)
    fade = np.sin(np.linspace(0, np.pi, 1024))[:, None, None]
    return (row[None] * fade + 60 * (1 - fade)).astype(np.uint8)


def encoded(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=92)
    return file.getvalue()


def test_each_direction_shows_its_azimuth() -> None:
    views = look_around(Photo("s", sphere(), 2048, 1024, "JPEG", sphere=True))
    assert len(views) == SPHERE_VIEWS
    for number, view in enumerate(views):
        azimuth = np.pi + number * 2 * np.pi / SPHERE_VIEWS  # the middle column looks to the first heading
        middle = view[view.shape[0] // 2, view.shape[1] // 2].astype(float)
        assert middle[0] - 127 == pytest.approx(100 * np.sin(azimuth), abs=6)
        assert middle[1] - 127 == pytest.approx(100 * np.cos(azimuth), abs=6)


def test_a_sphere_has_one_answer_from_all_its_directions(tiny_bundle: Path) -> None:
    bundle = Bundle(tiny_bundle)
    data = encoded(sphere())
    assert read_photo(data).sphere
    seen = bundle.see(data)
    assert len(seen.descriptors) == SPHERE_VIEWS
    (answer,) = bundle.answer([data])
    assert len(answer.neighbours) == 5
    assert (
        len(bundle.see(encoded(np.random.default_rng(0).integers(0, 255, (320, 640, 3)).astype(np.uint8))).descriptors)
        == 1
    )
