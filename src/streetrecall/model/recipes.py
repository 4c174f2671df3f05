"""``train.recipe``: names for complete settings of a training."""

from __future__ import annotations

from streetrecall.params.schema import Batch, GemBranch, Head, Phase, Train


def for_views(train: Train) -> Train:
    """The settings of a training on views: those of ``train.views`` in place of the head's branches, the batch and the
    phases."""
    views = train.views
    batch = Batch(
        places=views.places,
        images=views.images,
        guard_m=views.far_m,
        gap_weight=0.0,
        hard_share=0.0,
        memory=views.memory,
    )
    head = train.head.model_copy(update={"branches": views.branches})
    augment = train.augment.model_copy(update={"part_share": 0.0, "copies": 0})
    return train.model_copy(update={"head": head, "batch": batch, "phases": views.phases, "augment": augment})


def started(train: Train, backbone: str, image_size: int, head: Head) -> Train:
    """The settings of a training that starts from a trained embedder with these parts."""
    return train.model_copy(update={"backbone": backbone, "image_size": image_size, "head": head, "weights": "none"})


def effective(train: Train) -> Train:
    """The settings of ``train.recipe``.

    ``original`` is what the first users of the collection tried: ResNet50 with its first 40 layers frozen, maps of unit
    norm at each position before GeM, trained from pixels. Everything else is taken from the parameters. Without phases
    nothing is trained, so the recipe decides nothing.
    """
    if train.recipe == "streetrecall" or not train.phases:
        return train
    head = train.head.model_copy(
        update={
            "normalise": "before",
            "branches": [GemBranch(pool="gem", map="last", p=3.0, weight=1.0)],
        }
    )
    longest = max(train.phases, key=lambda phase: phase.epochs)
    phase = Phase(
        start="random",
        trains_after="image",
        epochs=longest.epochs,
        steps=longest.steps,
        learning_rate=longest.learning_rate,
        patience=longest.patience,
    )
    return train.model_copy(update={"backbone": "resnet50", "frozen_layers": 40, "head": head, "phases": [phase]})
