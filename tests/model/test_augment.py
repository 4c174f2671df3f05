"""Augmentation of pictures and of maps: the seed decides, nothing is mirrored, and off means no change."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from streetrecall.model.augment import augment, augment_map
from streetrecall.params.schema import Augment

OFF = {"shift": 0.0, "zoom": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "erase": 0.0}
OFF |= {"copies": 0, "part_share": 0.0, "part_least": 0.6, "roll_deg": 10.0}


def knobs(**change: float) -> Augment:
    return Augment.model_validate(OFF | change)


def ramp(height: int = 14, width: int = 14, channels: int = 3) -> np.ndarray:
    """Each channel grows from left to right."""
    return np.broadcast_to(np.linspace(40, 200, width)[:, None], (height, width, channels)).astype(np.float32)


@pytest.mark.parametrize("change", [augment, augment_map])
def test_off_changes_nothing(change) -> None:  # type: ignore[no-untyped-def]
    assert np.allclose(change(tf.constant(ramp()), (1, 2), knobs()), ramp(), atol=1e-3)


@pytest.mark.parametrize("change", [augment, augment_map])
def test_the_seed_decides(change) -> None:  # type: ignore[no-untyped-def]
    strong = knobs(shift=0.3, zoom=0.3, erase=0.5)
    values = tf.constant(np.random.default_rng(1).uniform(0, 255, (14, 14, 3)).astype(np.float32))
    first, again, other = (change(values, seed, strong).numpy() for seed in ((1, 2), (1, 2), (1, 3)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("change", [augment, augment_map])
def test_the_seed_decides_in_a_parallel_map_too(change) -> None:  # type: ignore[no-untyped-def]
    strong = knobs(shift=0.3, zoom=0.3, erase=0.5, brightness=0.3, contrast=0.4, saturation=0.4)
    values = tf.constant(np.random.default_rng(1).uniform(0, 255, (24, 14, 14, 3)).astype(np.float32))
    seeds = tf.random.experimental.stateless_split((1, 2), 24)

    def once() -> np.ndarray:
        data = tf.data.Dataset.from_tensor_slices((values, seeds))
        data = data.map(lambda value, seed: change(value, seed, strong), num_parallel_calls=4, deterministic=True)
        return np.stack(list(data.as_numpy_iterator()))

    first = once()
    assert np.array_equal(first, once())
    assert all((first[i] != values[i].numpy()).any() for i in range(24))


def test_light_and_colour_change_within_their_limits() -> None:
    values = np.random.default_rng(1).uniform(80, 160, (14, 14, 3)).astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)

    def many(**change: float) -> np.ndarray:
        return np.stack([augment(tf.constant(values), (seed, 0), knobs(**change)).numpy() for seed in range(60)])

    light = many(brightness=0.1) - values
    assert np.allclose(light, light[:, :1, :1, :1], atol=1e-3)  # the same everywhere
    assert light.min() >= -25.51 and light.max() <= 25.51 and np.ptp(light) > 25
    contrast = many(contrast=0.3).std(axis=(1, 2)) / values.std(axis=(0, 1))
    assert contrast.min() >= 0.699 and contrast.max() <= 1.301 and np.ptp(contrast) > 0.3
    colour = np.abs(many(saturation=0.3) - grey).mean(axis=(1, 2, 3)) / np.abs(values - grey).mean()
    assert colour.min() < 0.9 and colour.max() > 1.1


@pytest.mark.parametrize("change", [augment, augment_map])
def test_nothing_is_mirrored(change) -> None:  # type: ignore[no-untyped-def]
    for seed in range(20):
        changed = change(tf.constant(ramp()), (seed, 0), knobs(shift=0.05, zoom=0.1)).numpy()
        assert (np.diff(changed[2:-2, 2:-2].mean(axis=(0, 2))) > 0).all()


def test_a_small_map_is_erased_too() -> None:
    values = np.random.default_rng(2).normal(size=(7, 7, 5)).astype(np.float32)
    assert all((augment_map(tf.constant(values), (i, 4), knobs(erase=1.0)).numpy() != values).any() for i in range(50))


def test_a_map_is_erased_channel_by_channel() -> None:
    values = np.random.default_rng(2).normal(size=(14, 14, 5)).astype(np.float32) + 10 * np.arange(5, dtype=np.float32)
    changed = augment_map(tf.constant(values), (3, 4), knobs(erase=1.0)).numpy()
    touched = (changed != values).any(axis=2)
    assert 1 <= touched.sum() <= 16  # a tenth to a third of 14 positions along each side
    assert np.allclose(changed[touched], values.mean(axis=(0, 1)), atol=1e-4)


def test_a_part_is_stretched_to_the_whole() -> None:
    """Along the ramp of grey levels a part spans less of it, and no part is outside of it."""
    spans = []
    for seed in range(40):
        values = augment_map(tf.constant(ramp()), (seed, 5), knobs(part_share=1.0, roll_deg=0.0)).numpy()
        middle = values[7, :, 0]
        assert (np.diff(middle) >= -1e-3).all() and middle.min() >= 39.9 and middle.max() <= 200.1
        spans.append((middle[-1] - middle[0]) / 160)
    assert min(spans) == pytest.approx(0.62, abs=0.04) and max(spans) > 0.9


def test_parts_by_chance() -> None:
    values = tf.constant(np.random.default_rng(1).uniform(0, 255, (14, 14, 3)).astype(np.float32))
    same = [
        np.allclose(augment_map(values, (seed, 1), knobs(part_share=0.5)).numpy(), values, atol=1e-3)
        for seed in range(80)
    ]
    assert 20 < sum(same) < 60


def test_a_part_is_rolled() -> None:
    tilted = [
        augment_map(tf.constant(ramp()), (seed, 5), knobs(part_share=1.0, part_least=1.0, roll_deg=20.0)).numpy()
        for seed in range(20)
    ]
    slopes = [float(np.mean(v[10, 4:10, 0] - v[3, 4:10, 0])) for v in tilted]
    assert min(slopes) < -10 and max(slopes) > 10
