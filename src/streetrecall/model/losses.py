"""Losses over descriptors of unit norm, by cosine similarity: pure functions of TensorFlow tensors.

All take ``similarity`` (n, m) of n anchors, a batch, to m others, the batch itself and what is remembered of earlier
ones, and ``positive`` (n, m) and ``negative`` (n, m) masks; a pair in neither mask is not judged (a picture and itself,
the same place by another heading, or a place too near by). All return two scalars: a mean, and the share of what it is
taken over or of the judged pairs that the loss acted on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from streetrecall.params.schema import Loss

Pairs = tuple[Any, Any]


class Pictures(NamedTuple):
    """What `masks` must know of n pictures.

    ``image`` (n,) is a number of their own, -1 where there is none; ``label`` (n,) one for each (place, direction);
    ``place`` (n,) the place; ``xy`` (n, 2) its position in metres.
    """

    image: Any
    label: Any
    place: Any
    xy: Any


def masks(anchors: Pictures, others: Pictures, guard_m: float) -> tuple[Any, Any]:
    """Which of ``others`` are positive and which negative for each of ``anchors``, (anchors, others).

    Places nearer than ``guard_m`` metres show the same street: their pairs are not judged.

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


def multi_similarity(
    similarity: Any, positive: Any, negative: Any, *, alpha: float, beta: float, base: float, epsilon: float
) -> Pairs:
    """Multi-similarity loss with its miner (Wang et al. 2019, "Multi-similarity loss with general pair weighting").

    A negative pair counts if it is more similar than the anchor's least similar positive less ``epsilon``; a positive
    one if it is less similar than the anchor's most similar negative plus ``epsilon``. Over what counts, an anchor's
    loss is ``log(1 + sum exp(-alpha (s - base))) / alpha + log(1 + sum exp(beta (s - base))) / beta``; the mean over
    anchors, and the share of judged pairs that count.
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

    Positives pay ``1 - s``; negatives pay ``s - margin`` where that is above zero; the mean over judged pairs, and the
    share of them that pay.
    """
    pays = tf.where(positive, 1.0 - similarity, 0.0) + tf.where(negative, tf.nn.relu(similarity - margin), 0.0)
    judged = positive | negative
    pairs = tf.maximum(tf.reduce_sum(tf.cast(judged, tf.float32)), 1.0)
    active = (positive & (similarity < 1.0)) | (negative & (similarity > margin))
    return tf.reduce_sum(pays) / pairs, _share(active, judged)


def triplet(similarity: Any, positive: Any, negative: Any, *, margin: float) -> Pairs:
    """Batch-hard triplet loss (Hermans, Beyer and Leibe 2017, "In defense of the triplet loss") on cosine similarity.

    Each anchor pays ``most similar negative - least similar positive + margin`` where that is above zero; the mean
    over anchors that have both, and the share of them that pay.
    """
    least_positive = tf.reduce_min(tf.where(positive, similarity, 2.0), axis=1)
    most_negative = tf.reduce_max(tf.where(negative, similarity, -2.0), axis=1)
    both = tf.reduce_any(positive, 1) & tf.reduce_any(negative, 1)
    pays = tf.where(both, tf.nn.relu(most_negative - least_positive + margin), 0.0)
    anchors = tf.maximum(tf.reduce_sum(tf.cast(both, tf.float32)), 1.0)
    return tf.reduce_sum(pays) / anchors, _share(both & (pays > 0.0), both)


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
