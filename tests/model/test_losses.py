"""Losses against loops that follow the papers' formulas, and their gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

tf = pytest.importorskip("tensorflow")

from streetrecall.model import losses  # noqa: E402
from streetrecall.params.schema import Loss  # noqa: E402

Masks = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def batch(seed: int, n: int = 12) -> tuple[NDArray[np.float64], NDArray, NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    descriptors = rng.standard_normal((n, 6))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    place = rng.integers(0, 4, n)
    label = place * 64 + rng.integers(0, 2, n)
    xy = np.stack([place * 90.0, np.zeros(n)], 1)
    return descriptors, label, place, xy


def pictures(image: NDArray, label: NDArray, place: NDArray, xy: NDArray) -> losses.Pictures:
    known = np.maximum(image, 0)
    return losses.Pictures(*map(tf.constant, (image, label[known], place[known], xy[known].astype(np.float32))))


def naive_masks(image: NDArray, others: NDArray, label: NDArray, place: NDArray, xy: NDArray, guard: float) -> Masks:
    """Of pictures by number, -1 where there is none."""
    positive, negative = np.zeros((2, len(image), len(others)), bool)
    for row, i in enumerate(image):
        for column, j in enumerate(others):
            if j >= 0:
                positive[row, column] = i != j and label[i] == label[j]
                negative[row, column] = place[i] != place[j] and math.dist(xy[i], xy[j]) > guard
    return positive, negative


def naive_multi_similarity(
    s: NDArray, positive: NDArray, negative: NDArray, alpha: float, beta: float, base: float, epsilon: float
) -> tuple[float, float]:
    total, acted = 0.0, 0
    for i in range(len(s)):
        own = [s[i, j] for j in range(s.shape[1]) if positive[i, j]]
        other = [s[i, j] for j in range(s.shape[1]) if negative[i, j]]
        hard_own = [v for v in own if other and v < max(other) + epsilon]
        hard_other = [v for v in other if own and v > min(own) - epsilon]
        # An anchor that lacks one kind has no bound to mine by: all of its other kind would be easier than nothing.
        if not own:
            hard_other = []
        total += math.log1p(sum(math.exp(-alpha * (v - base)) for v in hard_own)) / alpha
        total += math.log1p(sum(math.exp(beta * (v - base)) for v in hard_other)) / beta
        acted += len(hard_own) + len(hard_other)
    return total / len(s), acted / max((positive | negative).sum(), 1)


def naive_contrastive(s: NDArray, positive: NDArray, negative: NDArray, margin: float) -> float:
    pays, pairs = 0.0, 0
    for i in range(len(s)):
        for j in range(s.shape[1]):
            if positive[i, j]:
                pays, pairs = pays + 1 - s[i, j], pairs + 1
            elif negative[i, j]:
                pays, pairs = pays + max(s[i, j] - margin, 0), pairs + 1
    return pays / max(pairs, 1)


def naive_triplet(s: NDArray, positive: NDArray, negative: NDArray, margin: float) -> float:
    pays = []
    for i in range(len(s)):
        own, other = s[i][positive[i]], s[i][negative[i]]
        if len(own) and len(other):
            pays.append(max(max(other) - min(own) + margin, 0))
    return sum(pays) / max(len(pays), 1)


MS = {"alpha": 2.0, "beta": 50.0, "base": 0.5, "epsilon": 0.1}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("guard", [0.0, 100.0])
def test_masks_and_losses_equal_their_loops(seed: int, guard: float) -> None:
    """A batch with a picture in it twice, against itself and a memory of other pictures, some of it empty."""
    descriptors, *facts = batch(seed, 16)
    image = np.array([0, 1, 2, 3, 4, 5, 6, 6, 8, 9])
    others = np.concatenate([image, [3, -1, 11, 12, 13, 14, 15, -1]])
    positive, negative = naive_masks(image, others, *facts, guard)
    got = losses.masks(pictures(image, *facts), pictures(others, *facts), guard)
    assert np.array_equal(got[0].numpy(), positive)
    assert np.array_equal(got[1].numpy(), negative)
    s = (descriptors[image] @ descriptors[others].T).astype(np.float32)
    value, share = losses.multi_similarity(tf.constant(s), *got, **MS)
    expected, expected_share = naive_multi_similarity(s, positive, negative, **MS)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(share) == pytest.approx(expected_share, rel=1e-6)
    value, _ = losses.contrastive(tf.constant(s), *got, margin=0.2)
    assert float(value) == pytest.approx(naive_contrastive(s, positive, negative, 0.2), rel=1e-5)
    value, _ = losses.triplet(tf.constant(s), *got, margin=0.2)
    assert float(value) == pytest.approx(naive_triplet(s, positive, negative, 0.2), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["multi_similarity", "contrastive", "triplet"])
def test_the_loss_that_the_parameters_name_is_built(name: str) -> None:
    descriptors, *facts = batch(7)
    everything = pictures(np.arange(len(descriptors)), *facts)
    pair = losses.masks(everything, everything, 0.0)
    s = (descriptors @ descriptors.T).astype(np.float32)
    value, _ = losses.build(Loss(name=name, margin=0.3, **MS))(tf.constant(s), *pair)
    expected = {
        "multi_similarity": naive_multi_similarity(s, *map(np.asarray, pair), **MS)[0],
        "contrastive": naive_contrastive(s, *map(np.asarray, pair), 0.3),
        "triplet": naive_triplet(s, *map(np.asarray, pair), 0.3),
    }
    assert float(value) == pytest.approx(expected[name], rel=1e-5)
    assert len({round(each, 4) for each in expected.values()}) == 3


@pytest.mark.parametrize("name", ["multi_similarity", "contrastive", "triplet"])
def test_gradients_equal_finite_differences(name: str) -> None:
    descriptors, *facts = batch(3)
    everything = pictures(np.arange(len(descriptors)), *facts)
    pair = losses.masks(everything, everything, 0.0)
    settings = {**MS, "beta": 5.0} if name == "multi_similarity" else {"margin": 0.2}
    s = tf.Variable((descriptors @ descriptors.T).astype(np.float32))
    with tf.GradientTape() as tape:
        value, _ = getattr(losses, name)(s, *pair, **settings)
    gradient = tape.gradient(value, s).numpy()
    # In double precision a naive loop gives differences that single precision would drown.
    base = s.numpy().astype(np.float64)
    loop = {
        "multi_similarity": lambda x: naive_multi_similarity(x, *map(np.asarray, pair), **settings)[0],
        "contrastive": lambda x: naive_contrastive(x, *map(np.asarray, pair), **settings),
        "triplet": lambda x: naive_triplet(x, *map(np.asarray, pair), **settings),
    }[name]
    rng = np.random.default_rng(0)
    step = 1e-6
    for _ in range(40):
        i, j = rng.integers(0, len(base), 2)
        high, low = base.copy(), base.copy()
        high[i, j] += step
        low[i, j] -= step
        assert gradient[i, j] == pytest.approx((loop(high) - loop(low)) / (2 * step), abs=2e-4)


def test_extreme_similarities_do_not_overflow() -> None:
    s = tf.constant([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    positive = tf.constant([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) > 0
    negative = tf.constant([[0, 0, 1], [0, 0, 1], [1, 1, 0]]) > 0
    value, _ = losses.multi_similarity(s, positive, negative, alpha=80.0, beta=500.0, base=0.5, epsilon=0.1)
    assert np.isfinite(float(value))
