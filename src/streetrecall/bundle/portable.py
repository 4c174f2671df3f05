"""The embedder as a file for LiteRT, which runs it without TensorFlow."""

from __future__ import annotations

import tempfile
from typing import Any

from streetrecall.model.embedder import Embedder
from streetrecall.model.shapes import sides
from streetrecall.quiet import quiet


def convert(embedder: Embedder, names: dict[tuple[int, int], str]) -> bytes:
    """The embedder as a LiteRT model, with the signature ``names[size]`` for each size: input ``image`` (1, height,
    width, 3) float32 of 0-255, output ``descriptor`` (1, d) of unit norm.

    The signatures share the weights. The same embedder gives the same bytes.
    """
    import tensorflow as tf

    from streetrecall.model import network

    module, signatures = tf.Module(), {}
    for (height, width), name in names.items():
        same = (height, width) == sides(embedder.image_size)
        resized = embedder.network if same else network.resized(embedder.network, (height, width), embedder.head)
        model = resized.inference()
        shape = tf.TensorSpec((1, height, width, 3), tf.float32, name="image")
        signatures[name] = tf.function(_describer(model), input_signature=[shape]).get_concrete_function()
        setattr(module, name, (signatures[name], [variable.value for variable in model.variables]))
    with tempfile.TemporaryDirectory() as folder, quiet():  # the converter reports each of its steps
        tf.saved_model.save(module, folder, signatures=signatures)
        made = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=sorted(signatures)).convert()
    return _without_names(bytes(made))


def _without_names(model: bytes) -> bytes:
    """The same model with numbers for the names of its tensors, which hold counters of the process that made them."""
    from tensorflow.lite.tools import flatbuffer_utils

    content = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    for number, graph in enumerate(content.subgraphs):
        graph.name = f"graph{number}"
        for index, tensor in enumerate(graph.tensors):
            tensor.name = f"tensor{index}"
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content))


def _describer(model: Any) -> Any:
    return lambda image: {"descriptor": model(image, training=False)}
