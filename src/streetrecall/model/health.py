"""Errors that end a training that has gone wrong, with advice that fits its settings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.model.history import Progress
from streetrecall.params.schema import Phase, Train


def spread(descriptors: NDArray[np.float32]) -> float:
    """1 minus the mean cosine similarity over all pairs, each with itself included: 0 where all are equal.

    >>> spread(np.eye(2, dtype=np.float32))
    0.5
    """
    mean = descriptors.mean(axis=0, dtype=np.float64)
    return float(1.0 - mean @ mean)


def check_loss(loss: float, params: Train, progress: Progress) -> None:
    """Raise UserError if the loss is not finite."""
    if not np.isfinite(loss):
        raise UserError(
            f"{_when(progress)}: the loss is no longer finite; lower the learning rate of this phase (train.phases)"
            + (" or train.loss.beta" if params.loss.name == "multi_similarity" else "")
        )


def check_finite(descriptors: NDArray[np.float32], progress: Progress) -> None:
    """Raise UserError if a descriptor is not finite."""
    if not np.isfinite(descriptors).all():
        raise UserError(
            f"{_when(progress)}: descriptors are not finite; lower the learning rates (train.phases). If "
            "train.precision is mixed_float16, try mixed_bfloat16 or float32"
        )


def check_spread(value: float, params: Train, phase: Phase, progress: Progress) -> None:
    """Raise UserError if the descriptors have collapsed, unless they come from a random projection without training."""
    if (progress.epoch or phase.start != "random") and value < params.min_spread:
        raise UserError(
            f"{_when(progress)}: the descriptors have collapsed: their spread (1 - mean similarity) is {value:.4f}, "
            f"below train.min_spread {params.min_spread}. To do: {_advice(params, phase, progress)}"
        )


def _when(progress: Progress) -> str:
    return f"phase {progress.phase + 1}, epoch {progress.epoch}"


def _advice(params: Train, phase: Phase, progress: Progress) -> str:
    advice = []
    if progress.epoch:
        advice.append("lower the phase's learning rate (train.phases)")
    if params.weights == "none" and params.batch_norm == "frozen":
        advice.append("set train.batch_norm to trained, for train.weights is none")
    if params.recipe != "streetrecall":
        advice.append("set train.recipe to streetrecall")
    elif phase.start not in ("lda", "pca"):
        advice.append("let the phase start from lda or pca")
    return ", or ".join([*advice, "lower train.min_spread, if its recall is good all the same"])
