"""Stages train and index on a tiny collection: the same bytes twice, also after SIGKILL, and clear words when it fails.

The stages run as processes of their own, as the pipeline runs them: TensorFlow's threads and seeds belong to a process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from streetrecall import tables

ROOT = Path(__file__).parents[2]
SMALL = {
    "weights": "none",
    "image_size": 64,
    "warmup_steps": 2,
    "head": {
        "dimensions": 24,
        "normalise": "none",
        "branches": [
            {"pool": "vlad", "map": "block3b_add", "channels": 8, "clusters": 4, "sharpness": 20.0, "weight": 1.0},
            {"pool": "grid", "map": "block3b_add", "channels": 4, "weight": 1.0},
        ],
        "shrinkage": 0.3,
        "components": 20,
    },
    "phases": [
        {"start": "lda", "trains_after": "head", "epochs": 3, "steps": 4, "learning_rate": 0.001, "patience": 3}
    ],
}


def write_params(folder: Path, **train: Any) -> Path:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["train"] |= SMALL | train
    raw["train"]["batch"] |= {"places": 4, "images": 2}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def command(stage: str, params: Path, crops: Path, out: Path) -> list[str]:
    parts = [sys.executable, "-m", "streetrecall.cli", stage, "--params", str(params), "--crops", str(crops)]
    parts += ["--model", str(out / "embedder"), "--metrics", str(out / f"{stage}.json")]
    return parts + (["--curves", str(out / "train.csv")] if stage == "train" else ["--index", str(out / "index")])


def run(stage: str, params: Path, crops: Path, out: Path, store: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"STREETRECALL_STORE": str(store)}
    out.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        command(stage, params, crops, out), env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def trained(tiny_crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run: its outputs in ``out``, its parameters and store beside them."""
    home = tmp_path_factory.mktemp("trained")
    done = run("train", write_params(home), tiny_crops, home / "out", home / "store")
    assert done.returncode == 0, done.stderr
    return home


def test_facts_and_curves_are_written_and_the_checkpoint_is_gone(trained: Path) -> None:
    facts = json.loads((trained / "out" / "train.json").read_text())
    assert facts["training"] == {"images": 36, "places": 6, "views": 12}
    assert facts["validation"]["queries"] == 8
    curve = pd.read_csv(trained / "out" / "train.csv")
    assert curve["epoch"].tolist() == [0, 1, 2, 3]
    assert not curve.isna().any().any()
    assert facts["validation"]["recall@1"]["mean"] == pytest.approx(curve["validation_recall"].max(), abs=1e-4)
    assert not list((trained / "store" / "training").glob("*"))
    assert list((trained / "store" / "maps").glob("*/*.npy"))


def test_the_memory_holds_the_latest_pictures_and_forgets_the_oldest() -> None:
    tf = pytest.importorskip("tensorflow")
    from streetrecall.model.trainer import _Memory

    memory = _Memory(5, 2)
    for start in (0, 3, 6):
        index = tf.range(start, start + 3, dtype=tf.int64)
        descriptors = tf.repeat(tf.cast(index, tf.float32)[:, None], 2, axis=1)
        others, rows = memory.after(descriptors, index)
        assert others.shape == (8, 2)
        assert rows.numpy()[:3].tolist() == index.numpy().tolist()
        memory.push(descriptors, index)
    assert memory.variables[1].numpy().tolist() == [4, 5, 6, 7, 8]
    assert memory.variables[0].numpy()[:, 0].tolist() == [4, 5, 6, 7, 8]
    memory.clear()
    assert memory.variables[1].numpy().tolist() == [-1] * 5
    none = _Memory(0, 2)
    none.push(descriptors, index)
    assert none.after(descriptors, index)[1].numpy().tolist() == [6, 7, 8]


@pytest.mark.slow
def test_killed_at_any_step_it_ends_with_the_same_bytes(trained: Path, tiny_crops: Path, tmp_path: Path) -> None:
    """SIGKILL as soon as each checkpoint appears, again and again, until a run gets through."""
    out, store = tmp_path / "out", tmp_path / "store"
    out.mkdir()
    seen: set[tuple[str, int]] = set()
    environment = os.environ | {"STREETRECALL_STORE": str(store)}
    kills = 0
    for _ in range(12):
        process = subprocess.Popen(
            command("train", trained / "params.yaml", tiny_crops, out),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            states = {(str(p), p.stat().st_mtime_ns) for p in store.glob("training/*/state.npz")}
            if states - seen and kills < 2:
                seen |= states
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            time.sleep(0.01)  # between looks at another process's file
        if process.returncode == 0:
            break
    assert kills == 2
    assert contents(out) == contents(trained / "out")


@pytest.mark.slow
def test_the_index_holds_every_picture_in_order(trained: Path, tiny_crops: Path) -> None:
    out = trained / "out"
    done = run("index", trained / "params.yaml", tiny_crops, out, trained / "store")
    assert done.returncode == 0, done.stderr
    rows = tables.read(tables.DESCRIPTORS, out / "index" / "rows.parquet")
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    descriptors = np.load(out / "index" / "descriptors.npy")
    assert descriptors.dtype == np.float16
    assert rows["image_id"].tolist() == images["image_id"].tolist()
    assert np.allclose(np.linalg.norm(descriptors.astype(np.float32), axis=1), 1, atol=2e-3)
    facts = json.loads((out / "index.json").read_text())
    assert facts["recall@10_against_exact"] == 1.0
    assert (facts["gallery"], facts["queries"], facts["kind"]) == (52, 26, "exact")


@pytest.mark.slow
def test_fine_tuning_from_a_layer_and_from_pixels(trained: Path, tiny_crops: Path, tmp_path: Path) -> None:
    phase = {"epochs": 1, "steps": 2, "learning_rate": 0.0001, "patience": 1}
    phases = [
        phase | {"start": "pca", "trains_after": "block2b_add"},
        phase | {"start": "lda", "trains_after": "block2b_add", "epochs": 0},
        phase | {"start": "keep", "trains_after": "image"},
    ]
    params = write_params(tmp_path, phases=phases, frozen_layers=10)
    first = run("train", params, tiny_crops, tmp_path / "a", trained / "store")
    assert first.returncode == 0, first.stderr
    second = run("train", params, tiny_crops, tmp_path / "b", tmp_path / "store")
    assert second.returncode == 0, second.stderr
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"recipe": "original"}, {"precision": "mixed_bfloat16"}, {"precision": "mixed_float16"}]
)
def test_other_recipes_and_precisions_train_and_describe(
    change: dict[str, str], tiny_crops: Path, tmp_path: Path
) -> None:
    phase = {"start": "pca", "trains_after": "image", "epochs": 1, "steps": 2, "learning_rate": 0.0001, "patience": 1}
    params = write_params(tmp_path, phases=[phase], min_spread=0.0, **change)  # random weights tell little apart
    done = run("train", params, tiny_crops, tmp_path, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "embedder" / "config.json").read_text())
    assert config["backbone"] == ("resnet50" if "recipe" in change else "efficientnet_lite0")
    done = run("index", params, tiny_crops, tmp_path, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "index" / "descriptors.npy").shape == (78, 24)


def test_a_collapsed_run_stops_with_advice(trained: Path, tiny_crops: Path, tmp_path: Path) -> None:
    done = run("train", write_params(tmp_path, min_spread=1.0), tiny_crops, tmp_path / "out", trained / "store")
    assert done.returncode == 2
    assert "collapsed" in done.stderr
    assert "learning rate" in done.stderr
    assert not (tmp_path / "out" / "train.json").exists()
