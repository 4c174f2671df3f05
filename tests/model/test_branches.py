"""Each pooling layer computes its formula, can be saved and loaded, and every branch is finite in any precision."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from streetrecall.errors import UserError  # noqa: E402
from streetrecall.model import branches  # noqa: E402
from streetrecall.model.backbone import Standardise  # noqa: E402
from streetrecall.model.branches import VLAD, GeM  # noqa: E402
from streetrecall.model.closed_form import principal_components  # noqa: E402
from streetrecall.params.schema import (  # noqa: E402
    AverageBranch,
    Branch,
    GemBranch,
    GridBranch,
    Params,
    VladBranch,
)

MAPS = np.random.default_rng(0).standard_normal((3, 4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "layer", [GeM(2.5), VLAD(7), Standardise([1.0, 2.0, 3.0], 4.0, True)], ids=lambda each: type(each).__name__
)
def test_layers_serialise(layer: keras.Layer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    maps = np.abs(MAPS[..., :3]) if isinstance(layer, Standardise) else MAPS
    model = keras.Sequential([keras.Input(maps.shape[1:]), layer])
    for weight in model.weights:
        weight.assign(np.abs(np.random.default_rng(1).standard_normal(weight.shape)) + 1)
    model.save(tmp_path / "layer.keras")
    again = keras.saving.load_model(tmp_path / "layer.keras")
    assert np.array_equal(model(maps), again(maps))
    assert model.output_shape[1:] == tuple(model(maps).shape[1:])
    assert again.layers[0].get_config() == layer.get_config()


def test_a_saved_model_is_loaded_by_a_fresh_process_that_imports_the_network(tmp_path: Path) -> None:
    pixels = keras.Input((4, 5, 6))
    maps = Standardise([1.0] * 6, 2.0, False)(pixels)
    joined = keras.layers.Concatenate()([GeM(2.5)(maps), VLAD(7)(maps)])
    model = keras.Model(pixels, joined)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "maps.npy", MAPS)
    code = "import keras, numpy, sys, streetrecall.model.network; home = sys.argv[1]; "
    code += "given = numpy.load(home + '/maps.npy'); model = keras.models.load_model(home + '/model.keras'); "
    code += "numpy.save(home + '/out.npy', model(given))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, timeout=120)
    assert np.array_equal(np.load(tmp_path / "out.npy"), model(MAPS))


def test_gem_is_the_average_at_one_and_nears_the_maximum() -> None:
    positive = np.abs(MAPS)
    assert np.allclose(GeM(1.0)(positive), positive.mean((1, 2)), rtol=1e-5)
    assert np.allclose(GeM(60.0)(positive), positive.max((1, 2)), rtol=0.08)
    with pytest.raises(ValueError, match="at least 1"):
        GeM(0.5)


def test_gem_learns_its_exponent() -> None:
    import tensorflow as tf

    layer = GeM(3.0)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(np.abs(MAPS)))
    assert float(tape.gradient(value, layer.p)) > 0


def test_vlad_equals_its_definition() -> None:
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((5, 6)).astype(np.float32)
    layer = VLAD(5)
    layer.build(MAPS.shape)
    layer.start(centres, 1e4)  # so sharp that each position has one centre
    expected = []
    for tokens in MAPS.reshape(3, 20, 6):
        sums = np.zeros((5, 6))
        for token in tokens:
            nearest = ((token - centres) ** 2).sum(1).argmin()
            sums[nearest] += token - centres[nearest]
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        flat = (sums / np.where(lengths > 0, lengths, 1)).ravel()
        expected.append(flat / np.linalg.norm(flat))
    assert np.allclose(layer(MAPS), expected, atol=1e-4)


def test_standardise_reverses_channels() -> None:
    pixels = np.array([[[[10.0, 20.0, 30.0]]]], np.float32)
    assert np.allclose(Standardise([1, 2, 3], 2.0, True)(pixels), [[[[14.5, 9.0, 3.5]]]])


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_every_branch_is_finite_in_any_precision(precision: str, params: Params) -> None:
    """Also with centres that are near no position, and with positions where the backbone gives only zeros."""
    import tensorflow as tf

    rng = np.random.default_rng(3)
    maps = rng.standard_normal((2, 14, 14, 112)).astype(np.float32)
    maps[0, :7] = 0
    default = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        several = [
            VladBranch(pool="vlad", map="m", channels=112, clusters=64, sharpness=50.0, weight=1.0),
            GridBranch(pool="grid", map="m", channels=64, weight=1.0),
            GemBranch(pool="gem", map="m", p=3.0, weight=1.0),
            AverageBranch(pool="average", map="m", weight=1.0),
        ]
        for branch in several:
            for normalise in ("none", "before", "after"):
                start = keras.Input(maps.shape[1:])
                model = keras.Model(start, branches.build(branch, start, 0, normalise))
                if isinstance(branch, VladBranch):
                    centres = rng.standard_normal((64, 112)).astype(np.float32)
                    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
                    model.get_layer("branch0_vlad").start(centres, branch.sharpness)
                with tf.GradientTape() as tape:
                    values = model(maps)
                    total = tf.reduce_sum(values**2)
                assert values.dtype == "float32"
                assert np.isfinite(values).all()
                assert all(np.isfinite(g).all() for g in tape.gradient(total, model.trainable_variables))
    finally:
        keras.config.set_dtype_policy(default)


def test_every_pooling_of_the_parameters_can_be_built() -> None:
    kinds = get_args(get_args(Branch)[0])
    assert {get_args(kind.model_fields["pool"].annotation)[0] for kind in kinds} == set(branches.POOLINGS)


@pytest.mark.parametrize(
    "branch",
    [
        VladBranch(pool="vlad", map="m", channels=4, clusters=3, sharpness=9.0, weight=1.0),
        GridBranch(pool="grid", map="m", channels=4, weight=1.0),
        GemBranch(pool="gem", map="m", p=3.0, weight=1.0),
    ],
    ids=lambda branch: branch.pool,
)
def test_a_branch_starts_from_the_principal_components_of_its_map(branch: Branch) -> None:
    image = keras.Input(MAPS.shape[1:])
    model = keras.Model(image, branches.build(branch, image, 2, "none"))
    before = [np.array(weight) for weight in model.get_weights()]
    branches.start(model, branch, 2, MAPS, np.random.default_rng(0))
    if not branches.starts_from_data(branch):
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        return
    tokens = MAPS.reshape(-1, 6)
    mean, directions = principal_components(tokens, 4)
    local = model.get_layer("branch2_local")
    assert np.allclose(local(tokens), (tokens - mean) @ directions, atol=1e-5)
    if branch.pool == "vlad":
        vlad = model.get_layer("branch2_vlad")
        units = np.asarray(keras.ops.normalize(local(tokens), axis=-1))
        nearest = np.argmin(((units[:, None] - np.asarray(vlad.centres)[None]) ** 2).sum(2), axis=1)
        means = [np.mean(units[nearest == centre], axis=0) for centre in range(3)]
        assert np.allclose(vlad.centres, means, atol=1e-4)  # k-means has converged


def test_a_branch_of_more_channels_than_its_map_is_refused() -> None:
    branch = GridBranch(pool="grid", map="m", channels=7, weight=1.0)
    with pytest.raises(UserError, match=r"train.head.branches\[1\].channels is 7, and the map 'm' has 6 channels"):
        branches.build(branch, keras.Input(MAPS.shape[1:]), 1, "none")
