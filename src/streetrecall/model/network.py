"""The embedder as a network: pixels, backbone, maps, branches, projection, a descriptor of unit norm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from streetrecall.errors import UserError
from streetrecall.model import backbone as backbones
from streetrecall.model.layers import VLAD, GeM
from streetrecall.params.schema import AverageBranch, Branch, GemBranch, GridBranch, Head, VladBranch

IMAGE, HEAD = "image", "head"
MAPS, LONG, DESCRIPTOR = "maps", "long", "descriptor"


@dataclass(frozen=True)
class Network:
    """The parts of an embedder, and the whole. ``branches`` turns maps into one long vector, ``projection`` that
    into the descriptor."""

    backbone: backbones.Backbone
    maps: list[str]
    branches: keras.Model
    projection: keras.Model
    whole: keras.Model

    def cuts(self, cut: str) -> list[str]:
        """Names of the layers whose output `frozen` gives."""
        return self.maps if cut == HEAD else [cut]

    def frozen(self, cut: str) -> keras.Model:
        """From pixels to the layer ``cut``; to all maps if that is ``head``."""
        image = keras.Input(self.backbone.network.input.shape[1:], name="pixels")
        part = self.backbone.inference(self.cuts(cut))
        return keras.Model(image, _listed(part(self.backbone.pixels(image))))

    def inference(self) -> keras.Model:
        """The whole, as fast as it can be had, with the weights of this moment."""
        frozen = self.frozen(HEAD)
        return keras.Model(frozen.input, self.projection(self.branches(shaped(frozen.outputs))))

    def tail(self, cut: str, to: str = DESCRIPTOR) -> keras.Model:
        """From what `frozen` gives for the same ``cut`` (from the picture if that is ``image``) to the maps, the long
        vector or the descriptor; it shares its weights with the whole."""
        start: Any
        if cut == HEAD:
            start = maps = [keras.Input(self.backbone.tensor(name).shape[1:]) for name in self.maps]
        else:
            image = cut == IMAGE
            first = self.backbone.network.input if image else self.backbone.tensor(cut)
            try:
                part = keras.Model(first, [self.backbone.tensor(name) for name in self.maps])
            except ValueError as error:
                raise UserError(
                    f"the layer '{cut}' is no place to begin training: the maps {', '.join(self.maps)} must all come "
                    "after it and depend on it alone"
                ) from error
            start = keras.Input(self.whole.input.shape[1:] if image else first.shape[1:])
            maps = _listed(part(self.backbone.pixels(start) if image else start))
        if to == MAPS:
            return keras.Model(start, maps)
        long = self.branches(shaped(maps))
        return keras.Model(start, long if to == LONG else self.projection(long))


def build(backbone: str, weights: str, image_size: int, head: Head) -> Network:
    """The embedder that ``train.backbone`` and ``train.head`` describe; projection and centres are yet to be set."""
    base = backbones.build(backbone, weights, image_size)
    maps = list(dict.fromkeys(branch.map for branch in head.branches))
    tensors = [base.tensor(name) for name in maps]
    inputs = [keras.Input(tensor.shape[1:], name=f"map{i}") for i, tensor in enumerate(tensors)]
    parts = [
        _branch(branch, inputs[maps.index(branch.map)], number, head.normalise)
        for number, branch in enumerate(head.branches)
    ]
    joined = keras.layers.Concatenate(name="joined", dtype="float32")(parts) if len(parts) > 1 else parts[0]
    branches = keras.Model(shaped(inputs), joined, name="branches")
    long = keras.Input(joined.shape[1:], name="long")
    short = keras.layers.Dense(
        head.dimensions, name="projection", kernel_initializer="glorot_uniform", dtype="float32"
    )(long)
    unit = keras.layers.UnitNormalization(axis=-1, name="unit", dtype="float32")(short)
    projection = keras.Model(long, unit, name="descriptor")
    image = keras.Input((image_size, image_size, 3), name="image")
    features = keras.Model(base.network.input, tensors, name="maps")
    whole = keras.Model(image, projection(branches(shaped(features(base.pixels(image))))), name="embedder")
    return Network(base, maps, branches, projection, whole)


def _branch(branch: Branch, tensor: Any, number: int, normalise: str) -> Any:
    name = f"branch{number}"
    # In float32 whatever the precision: sums over a whole map, and lengths near zero, leave the range of float16.
    unit = partial(keras.layers.UnitNormalization, dtype="float32")
    if isinstance(branch, VladBranch | GridBranch):
        if branch.channels > tensor.shape[-1]:
            raise UserError(
                f"train.head.branches[{number}].channels is {branch.channels}, and the map '{branch.map}' has "
                f"{tensor.shape[-1]} channels"
            )
        local = keras.layers.Dense(branch.channels, name=f"{name}_local")(tensor)
        local = unit(axis=-1, name=f"{name}_unit")(local)
        if isinstance(branch, VladBranch):
            pooled = VLAD(branch.clusters, name=f"{name}_vlad", dtype="float32")(local)
        else:
            pooled = keras.layers.Flatten(name=f"{name}_flat", dtype="float32")(local)
            mean = 1.0 / (local.shape[1] * local.shape[2]) ** 0.5
            pooled = keras.layers.Rescaling(mean, name=f"{name}_mean", dtype="float32")(pooled)
    else:
        if normalise == "before":
            tensor = unit(axis=-1, name=f"{name}_before")(tensor)
        if isinstance(branch, GemBranch):
            pooled = GeM(branch.p, name=f"{name}_gem", dtype="float32")(tensor)
        else:
            assert isinstance(branch, AverageBranch)
            pooled = keras.layers.GlobalAveragePooling2D(name=f"{name}_average", dtype="float32")(tensor)
        if normalise == "after":
            pooled = unit(axis=-1, name=f"{name}_after")(pooled)
    return keras.layers.Rescaling(branch.weight, name=f"{name}_weight", dtype="float32")(pooled)


def _listed(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]


def shaped(tensors: Any) -> Any:
    """Inputs as a Keras model takes them: one tensor, or a list of several."""
    several = _listed(tensors)
    return several if len(several) > 1 else several[0]
