"""Losses on cosine similarities of descriptors of unit norm: pure functions of TensorFlow tensors.

All take ``similarity`` (n, m) of n anchors and m others, and the masks ``positive`` (n, m) and ``negative`` (n, m). The
anchors are a batch; the others are the batch itself and the memory of earlier ones. A pair in neither mask does not
count: a picture and itself, two headings of one place, or two places that are too close. All return two scalars: the
mean loss, and the active share, which is how many of the pairs (in `triplet`: of the anchors) the loss acts on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from streetrecall.params.schema import Loss, ViewTraining

Pairs = tuple[Any, Any]


class Pictures(NamedTuple):
    """Facts about n pictures, for `masks`.

    ``image`` (n,) numbers the pictures, -1 where there is none; ``label`` (n,) numbers the (place, direction);
    ``place`` (n,) is the place; ``xy`` (n, 2) its position in metres.
    """

    image: Any
    label: Any
    place: Any
    xy: Any


def masks(anchors: Pictures, others: Pictures, guard_m: float) -> tuple[Any, Any]:
    """Which of ``others`` are positive and which are negative for each of ``anchors``: two masks (anchors, others).

    Places closer than ``guard_m`` metres show the same street, so their pairs are neither.

    >>> xy = tf.constant([[0., 0.], [0., 0.], [0., 0.], [200., 0.]])
    >>> four = Pictures(tf.range(4), tf.constant([0, 0, 1, 5]), tf.constant([0, 0, 0, 1]), xy)
    >>> same, other = masks(four, four, 100.0)
    >>> same.numpy().astype(int).tolist()[0], other.numpy().astype(int).tolist()[0]
    ([0, 1, 0, 0], [0, 0, 0, 1])
    """
    there = others.image[None, :] >= 0
    another = anchors.image[:, None] != others.image[None, :]
    positive = (anchors.label[:, None] == others.label[None, :]) & another & there
    apart = tf.reduce_sum(tf.square(anchors.xy[:, None, :] - others.xy[None, :, :]), -1) > guard_m**2
    negative = (anchors.place[:, None] != others.place[None, :]) & apart & there
    return positive, negative


class Sights(NamedTuple):
    """Facts about n views, for `masks_by_sight`.

    ``image`` (n,) is as in `Pictures`, ``xy`` (n, 2) in metres, ``heading`` (n,) in degrees.
    """

    image: Any
    xy: Any
    heading: Any


def masks_by_sight(anchors: Sights, others: Sights, params: ViewTraining) -> tuple[Any, Any]:
    """As `masks`, by what is seen: positive are views from nearby that look the same way, negative are views from far
    away or that look another way. All between is neither.

    >>> from types import SimpleNamespace
    >>> limits = SimpleNamespace(near_m=14, near_deg=25, far_m=35, far_deg=75)
    >>> xy = tf.constant([[0., 0.], [10., 0.], [20., 0.], [0., 0.], [50., 0.]])
    >>> five = Sights(tf.range(5), xy, tf.constant([355., 10., 0., 90., 0.]))
    >>> same, other = masks_by_sight(five, five, limits)
    >>> same.numpy().astype(int).tolist()[0], other.numpy().astype(int).tolist()[0]
    ([0, 1, 0, 0, 0], [0, 0, 0, 1, 1])
    """
    there = others.image[None, :] >= 0
    another = anchors.image[:, None] != others.image[None, :]
    squared = tf.reduce_sum(tf.square(anchors.xy[:, None, :] - others.xy[None, :, :]), -1)
    turned = tf.abs(tf.math.floormod(anchors.heading[:, None] - others.heading[None, :] + 180.0, 360.0) - 180.0)
    positive = (squared <= params.near_m**2) & (turned <= params.near_deg) & another & there
    negative = ((squared >= params.far_m**2) | (turned >= params.far_deg)) & there
    return positive, negative


def multi_similarity(
    similarity: Any, positive: Any, negative: Any, *, alpha: float, beta: float, base: float, epsilon: float
) -> Pairs:
    """Multi-similarity loss with its miner (Wang et al. 2019, "Multi-similarity loss with general pair weighting").

    The miner keeps a negative pair if it is more similar than the anchor's least similar positive minus ``epsilon``,
    and a positive pair if it is less similar than the anchor's most similar negative plus ``epsilon``. The loss of an
    anchor, summed over the pairs that are kept, is ``log(1 + sum exp(-alpha (s - base))) / alpha + log(1 + sum exp(beta
    (s - base))) / beta``. Returns the mean over anchors, and the share of pairs that the miner keeps.
    """
    least_positive = tf.reduce_min(tf.where(positive, similarity, 2.0), axis=1, keepdims=True)
    most_negative = tf.reduce_max(tf.where(negative, similarity, -2.0), axis=1, keepdims=True)
    chosen_negative = negative & (similarity > least_positive - epsilon)
    chosen_positive = positive & (similarity < most_negative + epsilon)
    low = tf.float32.min / 4
    pull = tf.where(chosen_positive, -alpha * (similarity - base), low)
    push = tf.where(chosen_negative, beta * (similarity - base), low)
    anchor = _log1p_sum_exp(pull) / alpha + _log1p_sum_exp(push) / beta
    return tf.reduce_mean(anchor), _share(chosen_positive | chosen_negative, positive | negative)


def contrastive(similarity: Any, positive: Any, negative: Any, *, margin: float) -> Pairs:
    """Contrastive loss (Hadsell, Chopra and LeCun 2006) on cosine similarity.

    The loss of a positive pair is ``1 - s``, that of a negative pair ``s - margin`` if that is above zero. Returns the
    mean over pairs, and the share of pairs with a loss above zero.
    """
    loss = tf.where(positive, 1.0 - similarity, 0.0) + tf.where(negative, tf.nn.relu(similarity - margin), 0.0)
    counted = positive | negative
    pairs = tf.maximum(tf.reduce_sum(tf.cast(counted, tf.float32)), 1.0)
    active = (positive & (similarity < 1.0)) | (negative & (similarity > margin))
    return tf.reduce_sum(loss) / pairs, _share(active, counted)


def triplet(similarity: Any, positive: Any, negative: Any, *, margin: float) -> Pairs:
    """Batch-hard triplet loss (Hermans, Beyer and Leibe 2017, "In defense of the triplet loss") on cosine similarity.

    The loss of an anchor is ``most similar negative - least similar positive + margin`` if that is above zero. Returns
    the mean over anchors that have both, and the share of them with a loss above zero.
    """
    least_positive = tf.reduce_min(tf.where(positive, similarity, 2.0), axis=1)
    most_negative = tf.reduce_max(tf.where(negative, similarity, -2.0), axis=1)
    both = tf.reduce_any(positive, 1) & tf.reduce_any(negative, 1)
    loss = tf.where(both, tf.nn.relu(most_negative - least_positive + margin), 0.0)
    anchors = tf.maximum(tf.reduce_sum(tf.cast(both, tf.float32)), 1.0)
    return tf.reduce_sum(loss) / anchors, _share(both & (loss > 0.0), both)


def build(params: Loss) -> Callable[[Any, Any, Any], Pairs]:
    """The loss that ``train.loss`` describes."""
    if params.name == "multi_similarity":
        return partial(multi_similarity, alpha=params.alpha, beta=params.beta, base=params.base, epsilon=params.epsilon)
    return partial({"triplet": triplet, "contrastive": contrastive}[params.name], margin=params.margin)


def _log1p_sum_exp(x: Any) -> Any:
    """``log(1 + sum_j exp(x_ij))`` of each row, without overflow."""
    return tf.reduce_logsumexp(tf.pad(x, [[0, 0], [1, 0]]), axis=1)


def _share(part: Any, whole: Any) -> Any:
    count = tf.reduce_sum(tf.cast(whole, tf.float32))
    return tf.reduce_sum(tf.cast(part, tf.float32)) / tf.maximum(count, 1.0)
