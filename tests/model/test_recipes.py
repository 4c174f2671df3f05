"""Recipes replace settings of the training."""

from __future__ import annotations

from streetrecall.model import recipes
from streetrecall.params.schema import Params


def test_the_recipe_of_the_first_users(params: Params) -> None:
    plain = params.train
    assert recipes.effective(plain) == plain
    original = recipes.effective(plain.model_copy(update={"recipe": "original"}))
    assert (original.backbone, original.frozen_layers, original.head.normalise) == ("resnet50", 40, "before")
    ((branch,), (phase,)) = original.head.branches, original.phases
    assert (branch.pool, branch.map, branch.p) == ("gem", "last", 3.0)
    assert (phase.start, phase.trains_after, phase.epochs) == ("random", "image", plain.phases[0].epochs)
    assert (original.loss, original.batch) == (plain.loss, plain.batch)
