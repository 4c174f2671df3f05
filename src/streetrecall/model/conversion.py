"""From a network of Keras to a file for LiteRT, which runs it without TensorFlow."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import keras

from streetrecall.model import network as networks
from streetrecall.params.schema import Head
from streetrecall.quiet import quiet
from streetrecall.retrieval.portable import signature


def convert(network: networks.Network, head: Head, sizes: Sequence[tuple[int, int]]) -> bytes:
    """The network as a LiteRT model with a signature for each of ``sizes`` (height, width): input ``image`` (1, height,
    width, 3) float32 of 0-255, output ``descriptor`` (1, d) of unit norm.

    It computes in float32, also if the network was trained in another precision. The signatures share the weights. The
    same weights give the same bytes.
    """
    import tensorflow as tf

    module, signatures = tf.Module(), {}
    for height, width in sizes:
        name, model = signature(height, width), _inference(network, head, (height, width))
        shape = tf.TensorSpec((1, height, width, 3), tf.float32, name="image")
        signatures[name] = tf.function(_describer(model), input_signature=[shape]).get_concrete_function()
        setattr(module, name, (signatures[name], [variable.value for variable in model.variables]))
    with tempfile.TemporaryDirectory() as folder, quiet():  # the converter reports each of its steps
        tf.saved_model.save(module, folder, signatures=signatures)
        made = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=sorted(signatures)).convert()
    return _without_names(bytes(made))


def _inference(network: networks.Network, head: Head, size: tuple[int, int]) -> keras.Model:
    """The network for inference on pictures of ``size``, in float32, with a copy of the weights."""
    trained = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return networks.resized(network, size, head).inference()
    finally:
        keras.config.set_dtype_policy(trained)


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
