"""The embedder as a network: pixels, backbone, maps, branches, projection, a descriptor of unit norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from streetrecall.errors import UserError
from streetrecall.model import backbone as backbones
from streetrecall.model import branches as poolings
from streetrecall.model.shapes import Size, sides
from streetrecall.params.schema import GridBranch, Head

IMAGE, HEAD = "image", "head"  # values of a phase's trains_after that are no layer of the backbone
MAPS, POOLED, DESCRIPTOR = "maps", "pooled", "descriptor"  # outputs of a tail


@dataclass(frozen=True)
class Network:
    """The parts of an embedder, and the whole.

    ``maps`` names the layers of the backbone that the branches read. ``branches`` turns their outputs into one pooled
    vector, ``projection`` turns that vector into the descriptor.
    """

    backbone: backbones.Backbone
    maps: list[str]
    branches: keras.Model
    projection: keras.Model
    whole: keras.Model

    def layers(self, layer: str) -> list[str]:
        """Layers whose output a `tail` after ``layer`` reads: itself, or all maps if it is ``head``."""
        return self.maps if layer == HEAD else [layer]

    def inference(self) -> keras.Model:
        """The whole for inference: as fast as possible, with a copy of the current weights."""
        frozen = self.backbone.frozen(self.maps)
        return keras.Model(frozen.input, self.projection(self.branches(as_input(frozen.outputs))))

    def tail(self, layer: str, to: str = DESCRIPTOR) -> keras.Model:
        """The part after ``layer``, to the maps, the pooled vector or the descriptor. It shares its weights with the
        whole.

        Args:
            layer: a layer of the backbone; ``head``: the branches and what follows; ``image``: the whole, from pixels.

        Raises:
            UserError: a map does not come after the layer, or not after it alone.
        """
        start: Any
        if layer == HEAD:
            start = maps = [keras.Input(self.backbone.tensor(name).shape[1:]) for name in self.maps]
        else:
            image = layer == IMAGE
            first = self.backbone.network.input if image else self.backbone.tensor(layer)
            try:
                part = keras.Model(first, [self.backbone.tensor(name) for name in self.maps])
            except ValueError as error:
                raise UserError(
                    f"training cannot start after the layer '{layer}': the maps {', '.join(self.maps)} must all come "
                    "after it and depend on no other layer"
                ) from error
            start = keras.Input(self.whole.input.shape[1:] if image else first.shape[1:])
            maps = keras.tree.flatten(part(self.backbone.pixels(start) if image else start))
        if to == MAPS:
            return keras.Model(start, maps)
        pooled = self.branches(as_input(maps))
        return keras.Model(start, pooled if to == POOLED else self.projection(pooled))


def build(backbone: str, weights: str, image_size: Size, head: Head) -> Network:
    """The embedder that ``train.backbone`` and ``train.head`` describe, its projection and centres not yet set.

    Raises:
        UserError: the backbone, its weights or a layer does not exist, or a branch does not fit its map.
    """
    base = backbones.build(backbone, weights, image_size)
    maps = list(dict.fromkeys(branch.map for branch in head.branches))
    tensors = [base.tensor(name) for name in maps]
    inputs = [keras.Input(tensor.shape[1:], name=f"map{i}") for i, tensor in enumerate(tensors)]
    parts = [
        poolings.build(branch, inputs[maps.index(branch.map)], number, head.normalise)
        for number, branch in enumerate(head.branches)
    ]
    joined = keras.layers.Concatenate(name="joined", dtype="float32")(parts) if len(parts) > 1 else parts[0]
    branches = keras.Model(as_input(inputs), joined, name="branches")
    pooled = keras.Input(joined.shape[1:], name="long")  # the name is part of the file of weights
    projected = keras.layers.Dense(
        head.dimensions, name="projection", kernel_initializer="glorot_uniform", dtype="float32"
    )(pooled)
    unit = keras.layers.UnitNormalization(axis=-1, name="unit", dtype="float32")(projected)
    projection = keras.Model(pooled, unit, name="descriptor")
    image = keras.Input((*sides(image_size), 3), name="image")
    features = keras.Model(base.network.input, tensors, name="maps")
    whole = keras.Model(image, projection(branches(as_input(features(base.pixels(image))))), name="embedder")
    return Network(base, maps, branches, projection, whole)


def resized(network: Network, image_size: Size, head: Head) -> Network:
    """A separate network for pictures of ``image_size``, with a copy of the current weights.

    Raises:
        UserError: a branch `grid` gives as many values as its map has positions, so it takes one size only.
    """
    own = network.whole.input.shape[1:3] == sides(image_size)
    if not own and any(isinstance(branch, GridBranch) for branch in head.branches):
        raise UserError(
            "the branch 'grid' of the embedder takes square pictures only, and photos are not square; train on views "
            "(train.views) with branches of other kinds"
        )
    other = build(network.backbone.name, "none", image_size, head)
    copy_weights(network, other)
    return other


def copy_weights(source: Network, target: Network) -> None:
    """Set the weights of ``target`` to those of ``source``, which has the same layers for another size."""
    target.whole.set_weights(source.whole.get_weights())


def as_input(tensors: Any) -> Any:
    """Tensors as a Keras model takes them: one tensor by itself, several as a list."""
    several = keras.tree.flatten(tensors)
    return several if len(several) > 1 else several[0]
