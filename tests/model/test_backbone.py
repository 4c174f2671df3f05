"""The backbone has the published weights: compared with PyTorch if it is installed, and by what it recognises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402

from streetrecall.errors import UserError  # noqa: E402
from streetrecall.model import backbone, network, torch_pickle  # noqa: E402
from streetrecall.params.schema import GemBranch, Params  # noqa: E402


@pytest.fixture(scope="module")
def lite() -> backbone.Backbone:
    return backbone.build("efficientnet_lite0", "imagenet", 224)


@pytest.mark.slow
def test_pooled_features_equal_those_of_pytorch(lite: backbone.Backbone) -> None:
    torch = pytest.importorskip("torch", reason="the port is proven against PyTorch, which is not installed")
    state = {k: torch.from_numpy(v.copy()) for k, v in torch_pickle.load(backbone.lite_weights_path(lite.name)).items()}

    def convolve(x, name, stride=1, groups=1):  # type: ignore[no-untyped-def]
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        need = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)  # TensorFlow's "same"
        x = torch.nn.functional.pad(x, [need // 2, need - need // 2] * 2)
        return torch.nn.functional.conv2d(x, weight, None, stride, 0, 1, groups)

    def norm(x, name):  # type: ignore[no-untyped-def]
        parts = [state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return torch.nn.functional.batch_norm(x, *parts, training=False, eps=1e-3)

    def relu6(x):  # type: ignore[no-untyped-def]
        return x.clamp(0, 6)

    pixels = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3)).astype(np.float32)
    x = torch.from_numpy(((pixels - 127) / 128).transpose(0, 3, 1, 2).copy())
    x = relu6(norm(convolve(x, "_conv_stem", 2), "_bn0"))
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for number, stride in enumerate(strides):
        name, before = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in state:
            x = relu6(norm(convolve(x, f"{name}._expand_conv"), f"{name}._bn0"))
        x = relu6(norm(convolve(x, f"{name}._depthwise_conv", stride, x.shape[1]), f"{name}._bn1"))
        x = norm(convolve(x, f"{name}._project_conv"), f"{name}._bn2")
        if x.shape == before.shape:
            x = x + before
    expected = relu6(norm(convolve(x, "_conv_head"), "_bn1")).mean((2, 3)).numpy()
    got = lite.network(lite.pixels(pixels), training=False).numpy().mean((1, 2))
    assert np.abs(got - expected).max() < 1e-4


def test_the_network_recognises_a_cat(lite: backbone.Backbone) -> None:
    """With the classifier of the same file, scikit-image's photo of a cat is an ImageNet cat."""
    data = pytest.importorskip("skimage.data")
    from skimage.transform import resize

    picture = resize(data.chelsea()[:, 75:375], (224, 224), anti_aliasing=True)[None].astype(np.float32) * 255
    state = torch_pickle.load(backbone.lite_weights_path(lite.name))
    pooled = lite.network(lite.pixels(picture), training=False).numpy().mean((1, 2))
    scores = pooled @ state["_fc.weight"].T + state["_fc.bias"]
    assert scores.argmax() in (281, 282, 285)  # tabby, tiger cat, Egyptian cat


def test_folding_normalisation_and_padding_changes_nothing(lite: backbone.Backbone) -> None:
    pixels = lite.pixels(np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype(np.float32))
    layers = ["block5c_add", "block7a_project_bn", backbone.LAST]
    folded = lite.inference(layers)
    assert not {type(layer).__name__ for layer in folded.layers} & {"BatchNormalization", "ZeroPadding2D"}
    plain = backbone.keras.Model(lite.network.input, [lite.tensor(name) for name in layers])
    for old, new in zip(plain(pixels, training=False), folded(pixels, training=False), strict=True):
        assert np.abs(old.numpy() - new.numpy()).max() < 1e-3


@pytest.mark.parametrize(("side", "padding", "stays"), [(8, (0, 1), False), (8, (1, 0), True), (9, (0, 1), True)])
def test_padding_is_folded_only_if_the_convolution_can_pad_alike(
    side: int, padding: tuple[int, int], stays: bool
) -> None:
    layers = backbone.keras.layers
    start = backbone.keras.Input((side, side, 2))
    padded = layers.ZeroPadding2D((padding, padding))(start)
    model = backbone.keras.Model(start, [layers.DepthwiseConv2D(3, strides=2, use_bias=False)(padded)])
    folded = backbone.fold(model)
    assert any(type(layer).__name__ == "ZeroPadding2D" for layer in folded.layers) == stays
    values = np.random.default_rng(1).random((2, side, side, 2), np.float32)
    assert np.allclose(model(values)[0], folded(values)[0], atol=1e-6)


def test_folding_keeps_layers_that_are_outputs(lite: backbone.Backbone) -> None:
    """A convolution before its normalisation, and padding, can be outputs too."""
    pixels = lite.pixels(np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype(np.float32))
    layers = ["block2a_expand_conv", "block2a_dwconv_pad", "block2b_add"]
    plain = backbone.keras.Model(lite.network.input, [lite.tensor(name) for name in layers])
    got = lite.inference(layers)(pixels, training=False)
    for old, new in zip(plain(pixels, training=False), got, strict=True):
        assert old.shape == new.shape
        assert np.abs(old.numpy() - new.numpy()).max() < 1e-3


def test_mistakes_are_explained(lite: backbone.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="efficientnet_lite0"):
        backbone.build("efficientnet", "none", 224)
    with pytest.raises(UserError, match="multiple of 32"):
        backbone.build("efficientnet_lite0", "none", 225)
    with pytest.raises(UserError, match="block5c_add"):
        lite.tensor("block5c")
    monkeypatch.setitem(backbone.LITE_PACKAGES, "efficientnet_lite0", "no_such_package_of_weights")
    with pytest.raises(UserError, match="pip install no-such-package-of-weights"):
        backbone.build("efficientnet_lite0", "imagenet", 224)
    with pytest.raises(UserError, match="no such file"):
        backbone.load_lite_weights(lite.network, backbone.Path("nowhere.pth"))


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(backbone.keras.applications, "ResNet50", offline)
    with pytest.raises(UserError, match=r"weights=none, train.batch_norm=trained.*=efficientnet_lite0, train.recipe="):
        backbone.build("resnet50", "imagenet", 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", backbone.APPLICATIONS)
def test_a_backbone_of_keras_gives_the_same_descriptors_whole_in_parts_and_for_inference(
    name: str, params: Params
) -> None:
    gem = GemBranch(pool="gem", map=backbone.LAST, p=3.0, weight=1.0)
    built = network.build(name, "none", 64, params.train.head.model_copy(update={"branches": [gem], "dimensions": 8}))
    assert built.backbone.tensor(backbone.LAST).shape[1:3] == (2, 2)
    with pytest.raises(UserError, match="has no layer 'nope'; among those with maps: ") as error:
        built.backbone.tensor("nope")
    named = str(error.value).partition("with maps: ")[2].split(", ")
    assert all(len(built.backbone.tensor(layer).shape) == 4 for layer in named)
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    whole = built.whole(pixels)
    assert np.allclose(whole, built.inference()(pixels), atol=1e-5)
    assert np.allclose(whole, built.tail(network.IMAGE)(pixels), atol=1e-5)
    maps = built.backbone.frozen(built.maps)(pixels)
    assert np.allclose(whole, built.tail(network.HEAD)(network.as_input(maps)), atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "module"),
    [
        (backbone.CAFFE, keras.applications.resnet),
        (backbone.SYMMETRIC, keras.applications.resnet_v2),
        (backbone.IN_MODEL, keras.applications.efficientnet_v2),
        (backbone.IN_MODEL, keras.applications.mobilenet_v3),
        (backbone.IN_MODEL, keras.applications.convnext),
    ],
)
def test_pixels_are_prepared_as_the_weights_of_keras_expect(pixels: dict[str, Any], module: Any) -> None:
    values = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    prepared = backbone.Standardise.from_config(pixels)(values)
    assert np.allclose(prepared, module.preprocess_input(values.copy()), atol=1e-4)
