"""Stages train and index on a tiny collection: the same bytes twice, also after SIGKILL, and clear errors.

Each stage runs as a process, as in the pipeline: TensorFlow's threads and seeds belong to a process.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Train, load

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
        "components": 30,
    },
    "phases": [
        {"start": "lda", "trains_after": "head", "epochs": 3, "steps": 4, "learning_rate": 0.001, "patience": 3}
    ],
}


def write_params(folder: Path, **train: Any) -> Path:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["train"] |= SMALL | train
    raw["train"]["batch"] |= {"places": 4, "images": 2}
    raw["train"]["loss"] |= {
        "epsilon": 2.0
    }  # among so few pictures no pair is hard; with this slack the miner keeps them all
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def command(stage: str, params: Path, crops: Path, out: Path, views: Path | None = None) -> list[str]:
    """A stage on ``crops``, whose folder also has empty tables of views and photos, or on the town around ``views``."""
    parts = [sys.executable, "-m", "streetrecall.cli", stage, "--params", str(params), "--crops", str(crops)]
    parts += ["--views", str(views or crops), "--photos", str(views.parent / "photos" if views else crops)]
    parts += ["--model", str(out / "embedder"), "--metrics", str(out / f"{stage}.json")]
    if stage == "train":
        return [*parts, "--curves", str(out / "train.csv"), "--speed", str(out.with_suffix(".speed.csv"))]
    return [*parts, "--index", str(out / "index")]


def run(
    stage: str, params: Path, crops: Path, out: Path, store: Path, views: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"STREETRECALL_STORE": str(store)}
    out.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        command(stage, params, crops, out, views),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def make_trainer(params: Train, crops: Path, images: pd.DataFrame, store: Path) -> Any:
    from streetrecall.model.collection import CropCollection
    from streetrecall.model.trainer import Trainer

    return Trainer(params, CropCollection(crops, images, params.batch, params.seed), store)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def trained(tiny_crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption: its outputs in ``out``, its parameters and store beside them."""
    home = tmp_path_factory.mktemp("trained")
    done = run("train", write_params(home), tiny_crops, home / "out", home / "store")
    assert done.returncode == 0, done.stderr
    (home / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return home


def curve_of(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "train.csv")


def test_the_log_holds_progress_speed_and_time_spent_waiting(trained: Path) -> None:
    log = (trained / "log.txt").read_text(encoding="utf-8")
    bar = r"phase 1: +100%.* [\d.]+image/s, loss=[\d.]+, active=[\d.]+%, lr=[\d.e-]+, recall=0\.\d+, best=0\.\d+\]"
    assert re.search(bar, log)
    assert re.search(r"\d+ images a second while training, \d+\.\d% of it spent waiting for data", log)


def test_a_log_has_a_line_of_progress_every_ten_seconds_at_most(trained: Path) -> None:
    log = (trained / "log.txt").read_text(encoding="utf-8")
    seconds = re.search(r"; (\d+) s; \d+ images a second", log)
    assert seconds
    for name in ("maps", "phase 1"):
        lines = log.count(f"{name}: ")
        assert 2 <= lines <= 2 + int(seconds[1]) / 10, name  # the first and the last are always there


def test_the_speed_of_each_epoch_is_written_for_a_plot(trained: Path) -> None:
    speed = pd.read_csv(trained / "out.speed.csv")
    assert speed[["phase", "epoch"]].to_numpy().tolist() == [[1, 1], [1, 2], [1, 3]]
    assert (speed["images_per_second"] > 0).all()
    assert speed["waiting"].between(0, 1).all()
    slowest, fastest = speed["images_per_second"].min(), speed["images_per_second"].max()
    mean = re.search(r"(\d+) images a second while training", (trained / "log.txt").read_text(encoding="utf-8"))
    assert mean
    assert slowest - 1 <= int(mean[1]) <= fastest + 1
    (plot,) = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    (drawn,) = plot.values()
    assert {drawn["x"], drawn["y"]} < set(speed.columns)


def test_facts_and_curves_are_written_and_the_checkpoint_is_gone(trained: Path) -> None:
    facts = json.loads((trained / "out" / "train.json").read_text())
    assert facts["training"] == {"images": 36, "places": 6, "views": 12}
    assert facts["validation"]["queries"] == {"own": 8, "city": 8, "old": 8, "apart": 24}
    curve = curve_of(trained / "out")
    assert curve["epoch"].tolist() == [0, 1, 2, 3]
    assert not curve.isna().any().any()
    assert (curve["active_pairs"] > 0.5).all()
    assert (curve["loss"] > 0).all()
    assert facts["validation"]["recall@1"]["mean"] == pytest.approx(curve["validation_recall"].max(), abs=1e-4)
    assert not list((trained / "store" / "training").glob("*"))
    falling = [0.001 * (1 + math.cos(math.pi * done / 10)) / 2 for done in (2, 6, 10)]  # after a rise over two steps
    assert curve["learning_rate"].tolist() == pytest.approx([0.0, *falling], rel=1e-3, abs=1e-9)
    assert list((trained / "store" / "maps").glob("*/*.f16"))


@pytest.mark.parametrize("norms", ["frozen", "trained"])
def test_moving_statistics_are_averaged_where_they_move(tiny_crops: Path, tmp_path: Path, norms: str) -> None:
    from streetrecall.model import optimiser

    trainer = trainer_of(tmp_path, tiny_crops, batch_norm=norms)
    phase = trainer.params.phases[0].model_copy(update={"trains_after": "block2b_add"})
    trainer._set_trainable(phase)
    changing = optimiser.changing(trainer.network.tail(phase.trains_after), trainer.network.backbone.network)
    found = {v.path.rsplit("/", 1)[-1] for v in changing}
    assert ({"moving_mean", "moving_variance"} <= found) == (norms == "trained")
    assert not any("block1" in v.path for v in changing)  # earlier layers do not run


def run_killed(params: Path, crops: Path, out: Path, store: Path, delays: list[float]) -> None:
    """Train; for each of ``delays`` send SIGKILL so many seconds after a new checkpoint, and start again; then let it
    end."""
    out.mkdir()
    environment = os.environ | {"STREETRECALL_STORE": str(store)}
    seen: set[tuple[str, int]] = set()
    left, killed = list(delays), True
    log = out.with_suffix(".log")
    while killed:
        killed = False
        with log.open("ab") as file:
            process = subprocess.Popen(
                command("train", params, crops, out),
                env=environment | {"PYTHONUNBUFFERED": "1"},
                stdout=file,
                stderr=subprocess.DEVNULL,
            )
        while process.poll() is None:
            states = {(str(p), p.stat().st_mtime_ns) for p in store.glob("training/*/state.npz")}
            if left and states - seen:
                seen |= states
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(left.pop(0))
                process.send_signal(signal.SIGKILL)
                killed = process.wait() == -signal.SIGKILL
            time.sleep(0.01)
    assert (process.returncode, left) == (0, [])
    resumed = re.findall(r"resuming after phase (\d+), epoch (\d+)", log.read_text(encoding="utf-8"))
    assert len(resumed) == len(delays)  # each time it continued from the checkpoint, not from the start
    assert resumed == sorted(resumed)
    assert len(set(resumed)) > 1


@pytest.mark.slow
def test_killed_at_any_step_it_ends_with_the_same_bytes(trained: Path, tiny_crops: Path, tmp_path: Path) -> None:
    run_killed(trained / "params.yaml", tiny_crops, tmp_path / "out", tmp_path / "store", [0.0, 0.05])
    assert contents(tmp_path / "out") == contents(trained / "out")


@pytest.mark.slow
def test_fine_tuning_from_a_layer_and_from_pixels_killed_in_every_phase(
    trained: Path, tiny_crops: Path, tmp_path: Path
) -> None:
    """Phases from a layer, with a new start of the head, and from pixels: each kind of state is resumed."""
    phase = {"epochs": 1, "steps": 2, "learning_rate": 0.0001, "patience": 1}
    phases = [
        phase | {"start": "pca", "trains_after": "block2b_add"},
        phase | {"start": "lda", "trains_after": "block2b_add", "epochs": 0},
        phase | {"start": "keep", "trains_after": "image"},
    ]
    params = write_params(tmp_path, phases=phases, frozen_layers=10, precision="mixed_float16")
    first = run("train", params, tiny_crops, tmp_path / "a", trained / "store")
    assert first.returncode == 0, first.stderr
    assert curve_of(tmp_path / "a")["phase"].tolist() == [1, 1, 2, 3, 3]
    run_killed(params, tiny_crops, tmp_path / "b", tmp_path / "store", [0.3, 0.0, 0.3, 0.0])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    epochs = [pd.read_csv(tmp_path / f"{run}.speed.csv")[["phase", "epoch"]].to_numpy().tolist() for run in "ab"]
    assert epochs == [[[1, 1], [3, 1]]] * 2  # with the epochs before a kill


@pytest.mark.slow
def test_only_new_pictures_are_described_and_the_index_is_the_same(
    trained: Path, tiny_crops: Path, tmp_path: Path
) -> None:
    crops, store = tmp_path / "crops", tmp_path / "store"
    shutil.copytree(tiny_crops, crops)
    images = tables.read(tables.IMAGES, crops / "images.parquet")

    def described(name: str, store: Path, quarantined: list[int]) -> tuple[str, bytes]:
        images["quarantine"] = ["blank" if row in quarantined else "" for row in range(len(images))]
        tables.write(tables.IMAGES, images, crops / "images.parquet")
        shutil.copytree(trained / "out" / "embedder", tmp_path / name / "embedder")
        done = run("index", trained / "params.yaml", crops, tmp_path / name, store)
        assert done.returncode == 0, done.stderr
        return done.stdout, (tmp_path / name / "index" / "descriptors.npy").read_bytes()

    assert "75 pictures: 75 described" in described("first", store, [3, 7, 60])[0]
    text, grown = described("grown", store, [60])
    assert "77 pictures: 2 described" in text
    text, nothing_known = described("nothing", tmp_path / "empty", [60])
    assert "77 pictures: 77 described" in text
    assert grown == nothing_known


@pytest.mark.slow
def test_what_is_saved_describes_as_it_was_validated_and_the_index_holds_it_in_order(
    trained: Path, tiny_crops: Path, tmp_path: Path
) -> None:
    from streetrecall.model import decoding, embedder

    crops, out = tmp_path / "crops", tmp_path / "out"
    shutil.copytree(tiny_crops, crops)
    images = tables.read(tables.IMAGES, crops / "images.parquet")
    images.loc[[7, 60], "quarantine"] = "blank"
    tables.write(tables.IMAGES, images, crops / "images.parquet")
    shutil.copytree(trained / "out" / "embedder", out / "embedder")
    done = run("index", trained / "params.yaml", crops, out, trained / "store")
    assert done.returncode == 0, done.stderr
    rows = tables.read(tables.DESCRIPTORS, out / "index" / "rows.parquet")
    descriptors = np.load(out / "index" / "descriptors.npy")
    assert descriptors.dtype == np.float16
    assert rows["image_id"].tolist() == images["image_id"][images["quarantine"] == ""].tolist()
    assert np.allclose(np.linalg.norm(descriptors.astype(np.float32), axis=1), 1, atol=2e-3)
    model = embedder.load(out / "embedder")
    pictures = decoding.Pictures(crops, images)
    assert np.allclose(descriptors, model.describe([pictures[i] for i in rows["image_id"]]), atol=4e-3)
    facts = json.loads((out / "index.json").read_text())
    assert facts["recall@10_against_exact"] == 1.0
    assert (facts["described"], facts["quarantined"], facts["kind"]) == (76, 2, "exact")

    trainer = make_trainer(load(trained / "params.yaml").train, tiny_crops, images.assign(quarantine=""), tmp_path)
    described = trainer.collection.images["image_id"].iloc[trainer.collection.described]
    recall = trainer.validation.recall(model.describe([pictures[i] for i in described]))
    written = json.loads((trained / "out" / "train.json").read_text())["validation"]["recall@1"]
    assert {name: round(value, 4) for name, value in recall.items()} == written


@pytest.mark.parametrize(
    ("change", "epochs"),
    [({"patience": 1, "learning_rate": 1e-12}, [0, 1]), ({"epochs": 0}, [0])],
    ids=["no better for long enough", "a start alone"],
)
def test_a_phase_ends_early(
    trained: Path, tiny_crops: Path, tmp_path: Path, change: dict[str, Any], epochs: list[int]
) -> None:
    phase = SMALL["phases"][0] | change
    done = run("train", write_params(tmp_path, phases=[phase]), tiny_crops, tmp_path / "out", trained / "store")
    assert done.returncode == 0, done.stderr
    assert curve_of(tmp_path / "out")["epoch"].tolist() == epochs
    assert pd.read_csv(tmp_path / "out.speed.csv")["epoch"].tolist() == epochs[1:]
    assert ("no epoch was trained" in done.stdout) == (epochs == [0])


def test_averaging_changes_what_is_validated_and_not_how_it_is_trained(
    trained: Path, tiny_crops: Path, tmp_path: Path
) -> None:
    done = run("train", write_params(tmp_path, average_epochs=0.0), tiny_crops, tmp_path / "out", trained / "store")
    assert done.returncode == 0, done.stderr
    averaged, plain = curve_of(trained / "out"), curve_of(tmp_path / "out")
    assert averaged["loss"].tolist()[:2] == plain["loss"].tolist()[:2]
    assert averaged["spread"][0] == plain["spread"][0]
    assert averaged["spread"][1] != plain["spread"][1]


def keep_every_epoch(trainer: Any) -> None:
    """Let each epoch count as the best so far."""
    validate = trainer._validate
    trainer._validate = lambda *given: (setattr(trainer.progress, "score", -2.0), validate(*given))


@pytest.mark.slow
@pytest.mark.parametrize("norms", ["frozen", "trained"])
def test_what_is_frozen_stays_and_the_rest_is_trained(tiny_crops: Path, tmp_path: Path, norms: str) -> None:

    phase = {"start": "keep", "trains_after": "image", "epochs": 1, "steps": 1, "learning_rate": 0.01, "patience": 1}
    params = write_params(tmp_path, phases=[phase], frozen_layers=30, batch_norm=norms, min_spread=0.0, warmup_steps=0)
    images = tables.read(tables.IMAGES, tiny_crops / "images.parquet")
    trainer = make_trainer(load(params).train, tiny_crops, images, tmp_path)
    layers = [layer for layer in trainer.network.backbone.network.layers if layer.weights]
    frozen = {layer.name for layer in trainer.network.backbone.network.layers[:30]}
    before = {layer.name: layer.get_weights() for layer in layers}
    keep_every_epoch(trainer)
    trainer.run()
    moved = {
        layer.name: any((a != b).any() for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
        for layer in layers
    }
    after = [
        layer for layer in layers if layer.name not in frozen and "head" not in layer.name and "top" not in layer.name
    ]
    used = [layer for layer in after if not layer.name.startswith(("block4", "block5", "block6", "block7"))]
    norm = {layer.name for layer in layers if type(layer).__name__ == "BatchNormalization"}
    assert not any(moved[name] for name in frozen & set(moved))
    assert {layer.name for layer in used} & norm
    assert all(moved[layer.name] == (layer.name not in norm or norms == "trained") for layer in used)


def test_what_is_wrong_with_a_saved_model_is_named(trained: Path, tmp_path: Path) -> None:
    from streetrecall.model import embedder

    config, weights = tmp_path / embedder.CONFIG, tmp_path / embedder.WEIGHTS
    with pytest.raises(UserError, match=rf"{config}: there is no such file; the stage train writes it"):
        embedder.load(tmp_path)
    for text in ("[]", "{", "{}"):
        config.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=rf"{config}: not an embedder of this project"):
            embedder.load(tmp_path)
    config.write_text('{"version": 0}', encoding="utf-8")
    with pytest.raises(UserError, match="version 0, this program reads 1; train again"):
        embedder.load(tmp_path)
    shutil.copy(trained / "out" / "embedder" / embedder.CONFIG, config)
    with pytest.raises(UserError, match=rf"{weights}: there is no such file"):
        embedder.load(tmp_path)
    weights.write_bytes(b"no weights")
    with pytest.raises(UserError, match=rf"{weights}: not an embedder of this project"):
        embedder.load(tmp_path)


def trainer_of(folder: Path, crops: Path, **train: Any) -> Any:
    """A trainer within this process."""

    images = tables.read(tables.IMAGES, crops / "images.parquet")
    return make_trainer(load(write_params(folder, **train)).train, crops, images, folder / "store")


def test_maps_of_before_a_phase_from_pixels_are_made_anew_after_it(tiny_crops: Path, tmp_path: Path) -> None:
    phase = {"start": "keep", "epochs": 1, "steps": 1, "learning_rate": 0.01, "patience": 1}
    phases = [phase | {"trains_after": each} for each in ("block2b_add", "image", "block2b_add")]
    trainer = trainer_of(tmp_path, tiny_crops, phases=phases, min_spread=0.0, warmup_steps=0)
    keep_every_epoch(trainer)
    rows = pd.DataFrame(trainer.run().progress.rows).set_index(["phase", "epoch"])
    assert abs(rows["spread"][1, 1] - rows["spread"][2, 1]) > 0.01  # layers before block2b_add have been trained
    assert rows["spread"][3, 0] == pytest.approx(rows["spread"][2, 1], abs=1e-3)
    assert rows["validation_recall"][3, 0] == pytest.approx(rows["validation_recall"][2, 1], abs=0.1)


def test_only_the_newest_checkpoints_of_abandoned_runs_are_kept(tiny_crops: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, tiny_crops, phases=[SMALL["phases"][0] | {"epochs": 0}])
    for number in range(5):
        left = tmp_path / "store" / "training" / f"left{number}" / "state.npz"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"")
        os.utime(left.parent, (number, number))
    trainer.run()
    found = {path.parent.name for path in tmp_path.glob("store/training/*/state.npz")}
    assert found == {"left2", "left3", "left4", trainer.key()}


def test_a_run_is_resumed_even_after_many_others_were_stopped(
    tiny_crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(tmp_path, tiny_crops, phases=[SMALL["phases"][0] | {"epochs": 0}])
    trainer.run()
    os.utime(trainer.state_path.parent, (0, 0))
    for number in range(4):
        (trainer.state_path.parents[1] / f"later{number}").mkdir()
    trainer.run()
    assert "resuming after phase 1, epoch 0" in capsys.readouterr().out
    assert trainer.state_path.exists()


def test_a_random_start_is_random_in_each_phase(tiny_crops: Path, tmp_path: Path) -> None:
    phase = {"trains_after": "head", "epochs": 0, "steps": 1, "learning_rate": 0.01, "patience": 1}
    phases = [phase | {"start": start} for start in ("random", "lda", "random")]
    trainer = trainer_of(tmp_path, tiny_crops, phases=phases, min_spread=0.0)
    rows = pd.DataFrame(trainer.run().progress.rows)
    assert rows["spread"][0] == rows["spread"][2]
    assert rows["spread"][0] < rows["spread"][1] - 0.05


def test_an_epoch_that_takes_no_step_leaves_the_weights_as_they_are(tiny_crops: Path, tmp_path: Path) -> None:
    """In float16 all steps of an epoch may overflow; then there is no average of weights."""
    phase = SMALL["phases"][0] | {"epochs": 1, "start": "pca"}
    trainer = trainer_of(tmp_path, tiny_crops, phases=[phase], average_epochs=0.5)
    trainer.objective.step = lambda model, optimizer, average: (
        lambda inputs, rows: (average.push(optimizer.iterations), (0.5, 0.5))[1]
    )
    curve = trainer.run().progress.rows
    assert [row["epoch"] for row in curve] == [0, 1]
    assert curve[0]["spread"] == curve[1]["spread"]
    assert curve[0]["validation_recall"] == curve[1]["validation_recall"]


def test_descriptors_that_are_not_finite_stop_it_with_advice(tiny_crops: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, tiny_crops, phases=[SMALL["phases"][0] | {"start": "keep"}])
    projection = trainer.network.projection.get_layer("projection")
    projection.set_weights([np.full_like(each, np.nan) for each in projection.get_weights()])
    with pytest.raises(UserError, match=r"phase 1, epoch 0: descriptors are not finite; lower"):
        trainer.run()


def test_a_layer_after_which_training_cannot_start_is_an_error_before_any_training(
    tiny_crops: Path, tmp_path: Path
) -> None:
    phases = [SMALL["phases"][0], SMALL["phases"][0] | {"trains_after": "block5c_add", "start": "keep"}]
    with pytest.raises(UserError, match=r"training cannot start after the layer 'block5c_add'"):
        trainer_of(tmp_path, tiny_crops, phases=phases)


def test_other_weights_of_the_backbone_or_another_order_of_dates_are_another_run(
    tiny_crops: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(tmp_path, tiny_crops)
    keys = {trainer.key()}
    images = trainer.collection.images
    images["date_index"] = images["date_index"].to_numpy()[::-1]
    keys.add(trainer.key())
    norm = next(layer for layer in trainer.network.backbone.network.layers if layer.name.endswith("_bn"))
    norm.set_weights([value + 1 for value in norm.get_weights()])
    keys.add(trainer.key())
    assert len(keys) == 3


@pytest.mark.slow
def test_a_checkpoint_holds_the_state_of_dropout() -> None:
    from streetrecall.model import network
    from streetrecall.model.trainer import Trainer
    from streetrecall.params.schema import GemBranch

    head = load(ROOT / "params.yaml").train.head.model_copy(
        update={"branches": [GemBranch(pool="gem", map="last", p=3.0, weight=1.0)], "dimensions": 8}
    )
    built = network.build("efficientnet_v2_b0", "none", 64, head)
    trainer: Any = SimpleNamespace(network=built)
    saved = Trainer._values(trainer)
    picture = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    first = built.whole(picture, training=True).numpy()
    assert not np.array_equal(built.whole(picture, training=True), first)
    Trainer._assign(trainer, saved)
    assert np.array_equal(built.whole(picture, training=True), first)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"recipe": "original"}, {"precision": "mixed_bfloat16"}, {"precision": "mixed_float16"}]
)
def test_other_recipes_and_precisions_train_and_describe(
    change: dict[str, str], tiny_crops: Path, tmp_path: Path
) -> None:
    phase = {"start": "pca", "trains_after": "image", "epochs": 1, "steps": 2, "learning_rate": 0.0001, "patience": 1}
    params = write_params(tmp_path, phases=[phase], min_spread=0.0, **change)  # random weights give similar descriptors
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
    assert "train.batch_norm" in done.stderr
    assert "learning rate" not in done.stderr  # there was no training yet
    assert curve_of(tmp_path / "out")["epoch"].tolist() == [0]  # the curve up to the collapse is written
    assert not (tmp_path / "out" / "train.json").exists()


@pytest.mark.parametrize(
    ("change", "start", "advice"),
    [
        (
            {},
            "lda",
            r"lower the phase's learning rate \(train.phases\), or set train.batch_norm to trained.* is none, or lower",
        ),
        (
            {"batch_norm": "trained"},
            "keep",
            r"lower .* \(train.phases\), or let the phase start from lda or pca, or lower",
        ),
        (
            {"recipe": "original"},
            "random",
            r"set train.batch_norm to trained.*, or set train.recipe to streetrecall, or",
        ),
    ],
)
def test_a_collapse_after_an_epoch_comes_with_advice_that_fits_the_settings(
    tiny_crops: Path, tmp_path: Path, change: dict[str, Any], start: str, advice: str
) -> None:
    phase = SMALL["phases"][0] | {"start": start, "epochs": 1, "steps": 1}
    trainer = trainer_of(tmp_path, tiny_crops, phases=[phase], average_epochs=0.0, **change)
    run = trainer._epoch

    def collapse(*given: Any) -> tuple[float, float]:
        measured = run(*given)
        layer = trainer.network.projection.get_layer("projection")
        kernel, bias = layer.get_weights()
        layer.set_weights([0 * kernel, bias + 1])
        return measured

    trainer._epoch = collapse
    with pytest.raises(UserError, match=rf"phase 1, epoch 1: the descriptors have collapsed.*{advice}"):
        trainer.run()


def test_a_loss_that_is_not_finite_stops_it_with_advice(tiny_crops: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, tiny_crops)
    trainer.objective.step = lambda model, optimizer, average: lambda inputs, rows: (float("nan"), 0.5)
    with pytest.raises(UserError, match=r"phase 1, epoch 1: the loss is no longer finite; lower the learning rate"):
        trainer.run()


def test_a_trained_embedder_is_used_as_it_is(trained: Path, tiny_crops: Path, tmp_path: Path) -> None:
    """The same bytes, no row of the curve, and metrics that say so; backbone, size and head are those of the folder."""
    start = str(trained / "out/embedder")
    views = {"views": yaml.safe_load((ROOT / "params.yaml").read_text())["train"]["views"] | {"phases": []}}
    params = write_params(tmp_path, start_from=start, phases=[], image_size=32, **views)
    done = run("train", params, tiny_crops, tmp_path / "out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out/embedder") == contents(trained / "out/embedder")
    facts = json.loads((tmp_path / "out/train.json").read_text())
    assert facts["zero_shot"] is True and facts["start_from"] == start
    assert len(curve_of(tmp_path / "out")) == 0


def test_a_trained_embedder_is_tuned_further(trained: Path, tiny_crops: Path, tmp_path: Path) -> None:
    """Its epoch 0 is as good as the embedder was."""
    keep = [{"start": "keep", "trains_after": "head", "epochs": 1, "steps": 2, "learning_rate": 0.001, "patience": 1}]
    params = write_params(tmp_path, start_from=str(trained / "out/embedder"), phases=keep)
    done = run("train", params, tiny_crops, tmp_path / "out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    before, after = curve_of(trained / "out"), curve_of(tmp_path / "out")
    assert after["epoch"].tolist() == [0, 1]
    assert after["validation_recall"][0] == pytest.approx(before["validation_recall"].max(), abs=1e-6)


def test_no_phases_without_a_trained_embedder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="start_from"):
        load(write_params(tmp_path, phases=[]))
