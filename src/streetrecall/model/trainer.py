"""Training in phases: the maps of what is frozen are computed once, the rest is learnt on them.

`Trainer.run` reads as the training goes: start the head from the data, then for each phase epochs of batches, each
epoch closed by a look at the validation places and a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import keras
import keras_cv
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from streetrecall.errors import UserError
from streetrecall.model import checkpoint, features, initialise, losses, network, runtime
from streetrecall.model.augment import augment, augment_map
from streetrecall.model.sampler import Sampler
from streetrecall.model.validation import Validation, spread
from streetrecall.params.schema import Phase, Train
from streetrecall.retrieval.rows import descriptor_rows

VALIDATION_BATCH = 128
SHOWN_EVERY = 10  # steps
STARTED_FROM = 30_000  # training pictures at most, whole views: a projection of 10,000 inputs takes 1.2 GB for them
BESIDE = (
    "retrieval/rows.py",
    "retrieval/exact.py",
    "pictures/shards.py",
    "months.py",
)  # code outside this package that decides a result
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Speed(TypedDict):
    """How fast an epoch was trained; its ``seconds`` include those ``waited`` for data, but no look at validation."""

    phase: int
    epoch: int
    images: int
    seconds: float
    waited: float


@dataclass
class Progress:
    """Where a run stands. ``rows`` are the curve's; ``speeds``, one an epoch trained, alone differ from run to run."""

    phase: int = 0
    epoch: int = 0  # epochs of this phase that are done; 0: only its start has been looked at
    score: float = -1.0
    best_phase: int = 0
    best_epoch: int = 0
    since_best: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)


@dataclass
class Result:
    """A trained network and how it came about."""

    network: network.Network
    progress: Progress
    sampler: Sampler
    validation_queries: dict[str, int]  # of each contest


class Trainer:
    """Trains an embedder on ``images`` (IMAGES rows, quarantined ones included, which it leaves out) of ``crops``.

    ``store`` is the folder of caches and checkpoints; ``told`` hears of each new row of the curve.
    """

    def __init__(
        self,
        params: Train,
        crops: Path,
        images: pd.DataFrame,
        store: Path,
        told: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.params, self.crops, self.store, self.told = params, crops, store, told
        taking_part = images["split"].isin(["train", "validation"]) & (images["quarantine"] == "")
        self.images = images[taking_part].sort_values("image_id", ignore_index=True)
        self.training = np.flatnonzero(self.images["split"] == "train")
        self.sampler = Sampler(self.images.iloc[self.training].reset_index(drop=True), params.batch, params.seed)
        self.validating = np.flatnonzero(self.images["split"] == "validation")
        self.samples = self.sampler.first_and_last()
        # What is described after each epoch; of the training pictures the oldest and the newest of each view stand for
        # all, which would take several times as long.
        self.looked = np.sort(np.concatenate([self.validating, self.training[self.samples]]))
        self.validation = Validation(descriptor_rows(self.images.iloc[self.looked]))
        self.label = initialise.labels(self.images["place"], self.images["direction"])
        self.place = self.images["place"].to_numpy(np.int64)
        self.xy = self.images[["x", "y"]].to_numpy(np.float64)
        self.xy = (self.xy - self.xy.mean(axis=0)).astype(np.float32)
        self.network = network.build(params.backbone, params.weights, params.image_size, params.head)
        self.tail, self.inference = cache(self.network.tail), cache(_inference)  # each made once
        for phase in params.phases:  # a layer that none can begin after is told now, not when its turn has come
            self.tail(phase.trains_after)
        self.loss = losses.build(params.loss)
        self.progress = Progress()
        self.best: list[NDArray[Any]] = []
        self.memory = _Memory(min(params.batch.memory, len(self.training)), params.head.dimensions)
        self.held: tuple[str, list[NDArray[np.float16]]] | None = None
        self.state_path = store / "training" / self.key() / "state.npz"

    def key(self) -> str:
        """What the result depends on, as one hash: parameters, pictures, weights, code and its libraries."""
        code = [*sorted(Path(__file__).parent.glob("*.py")), *(Path(__file__).parents[1] / name for name in BESIDE)]
        columns = ["image_id", "place", "direction", "date_index", "month", "split", "sha256", "x", "y"]
        facts = {
            "params": self.params.model_dump(),
            "pictures": hashlib.sha256(self.images[columns].to_csv().encode()).hexdigest(),
            "weights": features.weights_digest(self.network.backbone.network),
            "code": [hashlib.sha256(p.read_bytes()).hexdigest() for p in code],
            "libraries": [np.__version__, tf.__version__, keras.__version__, keras_cv.__version__],
            "devices": runtime.devices(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def run(self) -> Result:
        """Train, or go on with a run of the same inputs that was killed.

        Raises:
            UserError: the descriptors collapsed, or the loss is no longer finite.
        """
        if self.state_path.exists():
            os.utime(self.state_path.parent)  # now the newest, however long ago it was stopped
        features.keep_newest(self.state_path.parents[1])
        state = self._resume()
        for number in range(self.progress.phase, len(self.params.phases)):
            self._phase(number, self.params.phases[number], state)
            state = None
        self._assign(self.best)
        return Result(self.network, self.progress, self.sampler, self.validation.asked)

    def forget(self) -> None:
        """Remove the checkpoint: the result is safely elsewhere."""
        shutil.rmtree(self.state_path.parent, ignore_errors=True)

    # a phase

    def _start_head(self, source: _Maps | _Pixels, start: str) -> None:
        """Set the head from what the backbone gives now, in closed form unless its projection is to be random."""
        head, seed = self.params.head, self.params.seed
        to_maps, to_long = (self.tail(source.cut, to) for to in (network.MAPS, network.LONG))
        initialise.start_branches(self.network, head, lambda rows: source.run(to_maps, rows), self.training, seed)
        if start == "random":
            initialise.randomise_projection(self.network, seed)
        else:
            rows = self.training[initialise.sample(self.label[self.training], STARTED_FROM, seed)]
            (vectors,) = source.run(to_long, rows)
            initialise.start_projection(self.network, head, start, vectors, self.label[rows], seed)

    def _maps(self, cut: str) -> list[NDArray[np.float16]]:
        """Maps of all pictures at ``cut``, computed, read from the cache or still at hand."""
        if self.held is None or self.held[0] != cut:
            self.held = None  # before the next are made: one set at a time fits into memory
            maps = features.compute(
                self.network.frozen(cut),
                self.params.backbone,
                self.network.cuts(cut),
                self.crops,
                self.images,
                self.params.image_size,
                self.params.threads,
                self.store / "maps",
            )
            self.held = (cut, maps)
        return self.held[1]

    def _phase(self, number: int, phase: Phase, state: list[NDArray[Any]] | None) -> None:
        if phase.trains_after == network.IMAGE:
            self.held = None  # all layers are trained, so maps of before are of no more use
        source = _Pixels(self) if phase.trains_after == network.IMAGE else _Maps(self, phase.trains_after)
        with closing(source):
            self._train(source, number, phase, state)

    def _train(self, source: _Maps | _Pixels, number: int, phase: Phase, state: list[NDArray[Any]] | None) -> None:
        self._set_trainable(phase)
        steps = phase.steps or max(len(self.training) // self.sampler.batch_size, 1)
        total = max(steps * phase.epochs, 1)
        warmup = min(self.params.warmup_steps, total // 2)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else phase.learning_rate,
            max(total - warmup, 1),
            warmup_target=phase.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
        optimizer: Any = keras.optimizers.AdamW(schedule, weight_decay=self.params.weight_decay)
        if self.params.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(source.model.trainable_variables)
        if state is None:
            self.progress.phase, self.progress.epoch, self.progress.since_best = number, 0, 0
            if phase.start != "keep":
                self._start_head(source, phase.start)
        average = _Average(self._changing(source.model), self.params.average_epochs * steps)
        variables = [*optimizer.variables, *average.variables]
        if state is None:
            first = self.sampler.epoch(_epoch_seed(number, 0), min(steps, 8))
            self._look(source, phase, 0.0, self._mean_loss(source, first))
            self.memory.clear()
            self._save(variables)
        else:
            for variable, value in zip(variables, state, strict=True):
                variable.assign(value)
        step = self._step(source.model, optimizer, average)
        batch = self.sampler.batch_size
        done = self.progress.epoch * steps * batch
        name, images = f"phase {number + 1}", phase.epochs * steps * batch
        with tqdm(total=images, initial=done, unit="image", desc=name, disable=not images) as bar:
            while self.progress.epoch < phase.epochs and self.progress.since_best < phase.patience:
                self.progress.epoch += 1
                rows = self.sampler.epoch(_epoch_seed(number, self.progress.epoch), steps)
                loss, active = self._epoch(source, rows, step, bar, lambda: float(schedule(optimizer.iterations)))
                rate = float(schedule(optimizer.iterations))
                trained = self._values()
                average.take()
                self._look(source, phase, rate, (loss, active))
                self._assign(trained)
                self._show(bar, loss, active, rate)
                self._save(variables)
        self._assign(self.best)

    def _set_trainable(self, phase: Phase) -> None:
        backbone = self.network.backbone.network
        for position, layer in enumerate(backbone.layers):
            frozen = phase.trains_after == network.IMAGE and position < self.params.frozen_layers
            still = isinstance(layer, keras.layers.BatchNormalization) and self.params.batch_norm == "frozen"
            layer.trainable = not (frozen or still)

    def _changing(self, model: keras.Model) -> list[Any]:
        """The variables of ``model`` that training changes and that can be averaged: weights, moving statistics."""
        norms = [n for n in self.network.backbone.network.layers if isinstance(n, keras.layers.BatchNormalization)]
        moving = {id(v) for norm in norms if norm.trainable for v in norm.non_trainable_variables}
        return [*model.trainable_variables, *(v for v in model.non_trainable_variables if id(v) in moving)]

    def _step(self, model: keras.Model, optimizer: Any, average: _Average) -> Any:
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

        @tf.function
        def step(inputs: Any, index: Any) -> Any:
            with tf.GradientTape() as tape:
                descriptors = model(network.shaped(inputs), training=True)
                loss, active = self._judge(descriptors, index, *self.memory.after(descriptors, index))
                objective = optimizer.scale_loss(loss) if scaled else loss
            gradients = tape.gradient(objective, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            average.push(optimizer.iterations)
            self.memory.push(descriptors, index)
            return loss, active

        return step

    def _judge(self, descriptors: Any, index: Any, others: Any, others_index: Any) -> Any:
        similarity = tf.matmul(descriptors, others, transpose_b=True)
        pairs = losses.masks(self._facts(index), self._facts(others_index), self.params.batch.guard_m)
        return self.loss(similarity, *pairs)

    def _facts(self, index: Any) -> losses.Pictures:
        known = tf.maximum(index, 0)
        return losses.Pictures(index, *(tf.gather(values, known) for values in (self.label, self.place, self.xy)))

    def _batches(self, source: _Maps | _Pixels, rows: Ints) -> Iterable[Any]:
        """Batches of an epoch; ``rows`` number the training pictures."""
        return source.dataset(self.training[rows])

    def seeds(self, count: int) -> tf.data.Dataset:
        """As many seeds of augmentation, of this phase and epoch alone."""
        seed = (self.params.seed * 1000 + self.progress.phase, self.progress.epoch)
        return tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_split(seed, count))

    def _show(self, bar: tqdm, loss: float, active: float, rate: float) -> None:
        """What the bar tells beside images a second: means of the epoch so far, and the validation's last and best."""
        last = self.progress.rows[-1]["validation_recall"]
        facts = {"loss": f"{loss:.3f}", "active": f"{active:.1%}", "lr": f"{rate:.2g}"}
        bar.set_postfix(facts | {"recall": f"{last:.4f}", "best": f"{self.progress.score:.4f}"}, refresh=False)

    def _epoch(
        self, source: _Maps | _Pixels, rows: Ints, step: Any, bar: tqdm, rate: Callable[[], float]
    ) -> tuple[float, float]:
        sums, count, waited = np.zeros(2), 0, 0.0
        started = ended = time.perf_counter()
        for inputs, index in self._batches(source, rows):
            waited += time.perf_counter() - ended
            loss, active = step(inputs, index)
            sums += float(loss), float(active)
            count += 1
            if not np.isfinite(sums[0]):
                raise UserError(
                    f"phase {self.progress.phase + 1}, epoch {self.progress.epoch}: the loss is no longer finite; "
                    "lower the learning rate of this phase (train.phases)"
                    + (" or train.loss.beta" if self.params.loss.name == "multi_similarity" else "")
                )
            if count % SHOWN_EVERY == 1:
                self._show(bar, sums[0] / count, sums[1] / count, rate())
            bar.update(len(index))
            ended = time.perf_counter()
        waited += time.perf_counter() - ended  # for the end of the data
        phase, epoch, seconds = self.progress.phase + 1, self.progress.epoch, time.perf_counter() - started
        self.progress.speeds.append(
            {"phase": phase, "epoch": epoch, "images": rows.size, "seconds": seconds, "waited": waited}
        )
        return float(sums[0] / count), float(sums[1] / count)

    def _mean_loss(self, source: _Maps | _Pixels, rows: Ints) -> tuple[float, float]:
        model = source.model

        @tf.function
        def run(inputs: Any, index: Any) -> Any:
            descriptors = model(network.shaped(inputs), training=False)
            return self._judge(descriptors, index, descriptors, index)

        values = [run(inputs, index) for inputs, index in self._batches(source, rows)]
        return float(np.mean([float(v[0]) for v in values])), float(np.mean([float(v[1]) for v in values]))

    # after an epoch

    def _look(self, source: _Maps | _Pixels, phase: Phase, rate: float, measured: tuple[float, float]) -> None:
        """Validate, find the confusions for the next epoch, keep the best, and stop a run that has collapsed."""
        (descriptors,) = source.run(source.model, self.looked)
        progress = self.progress
        if not np.isfinite(descriptors).all():
            raise UserError(
                f"phase {progress.phase + 1}, epoch {progress.epoch}: descriptors are not finite; lower the learning "
                "rates (train.phases), and if train.precision is mixed_float16, try mixed_bfloat16 or float32"
            )
        recall = self.validation.recall(descriptors)
        spreading = spread(descriptors[np.isin(self.looked, self.validating)])
        progress.rows.append(
            {
                "phase": progress.phase + 1,
                "epoch": progress.epoch,
                "loss": round(measured[0], 6),
                "active_pairs": round(measured[1], 6),
                "learning_rate": float(f"{rate:.6g}"),
                "validation_recall": round(recall["mean"], 6),
                **{f"validation_recall_{name}": round(value, 6) for name, value in recall.items() if name != "mean"},
                "spread": round(spreading, 6),
            }
        )
        self.told(progress)
        judged = progress.epoch or phase.start != "random"  # a random projection has not learnt to spread yet
        if judged and spreading < self.params.min_spread:
            raise UserError(
                f"phase {progress.phase + 1}, epoch {progress.epoch}: the descriptors have collapsed: their spread "
                f"(1 - mean similarity) is {spreading:.4f}, below train.min_spread {self.params.min_spread}. "
                + self._against_collapse(phase)
            )
        if recall["mean"] > progress.score:
            progress.score, progress.since_best = recall["mean"], 0
            progress.best_phase, progress.best_epoch = progress.phase + 1, progress.epoch
            self.best = [np.array(v) for v in self._values()]
        elif progress.epoch:
            progress.since_best += 1
        self.sampler.update(descriptors[np.isin(self.looked, self.training)], self.samples)

    def _against_collapse(self, phase: Phase) -> str:
        advice = []
        if self.progress.epoch:
            advice.append("lower the phase's learning rate (train.phases)")
        if self.params.weights == "none" and self.params.batch_norm == "frozen":
            advice.append("set train.batch_norm to trained, for train.weights is none")
        if self.params.recipe != "streetrecall":
            advice.append("set train.recipe to streetrecall")
        elif phase.start not in ("lda", "pca"):
            advice.append("let the phase start from lda or pca")
        return "To do: " + ", or ".join([*advice, "lower train.min_spread, if its recall is good all the same"])

    def _values(self) -> list[NDArray[Any]]:
        """Of everything that training changes, states of random generators (dropout) included."""
        return [keras.ops.convert_to_numpy(v) for v in self.network.whole.variables]

    def _assign(self, values: list[NDArray[Any]]) -> None:
        for variable, value in zip(self.network.whole.variables, values, strict=True):
            variable.assign(value)

    def _save(self, state: list[Any]) -> None:
        """Write a checkpoint; ``state`` are the variables of the phase itself, its optimiser's and its average's."""
        arrays = {f"weight{i}": v for i, v in enumerate(self._values())}
        arrays |= {f"best{i}": v for i, v in enumerate(self.best)}
        arrays |= {f"state{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(state)}
        arrays |= {f"memory{i}": v.numpy() for i, v in enumerate(self.memory.variables)}
        arrays["confusions"] = self.sampler.confusions
        checkpoint.save(self.state_path, vars(self.progress), arrays)

    def _resume(self) -> list[NDArray[Any]] | None:
        found = checkpoint.load(self.state_path)
        if found is None:
            return None
        facts, arrays = found
        self.progress = Progress(**facts)
        self._assign(_numbered(arrays, "weight"))
        self.best = _numbered(arrays, "best")
        self.sampler.confusions = arrays["confusions"]
        for variable, value in zip(self.memory.variables, _numbered(arrays, "memory"), strict=True):
            variable.assign(value)
        print(f"going on after phase {self.progress.phase + 1}, epoch {self.progress.epoch} of a run that was stopped")
        return _numbered(arrays, "state")


class _Memory:
    """Descriptors of the latest training pictures as they were when they were trained on (Wang et al. 2020,
    "Cross-batch memory for embedding learning"): a batch finds many more hard negatives there than in itself."""

    def __init__(self, size: int, dimensions: int) -> None:
        self.variables = (tf.Variable(tf.zeros((size, dimensions))), tf.Variable(tf.fill((size,), np.int64(-1))))

    def clear(self) -> None:
        descriptors, index = self.variables
        descriptors.assign(tf.zeros_like(descriptors))
        index.assign(tf.fill(index.shape, np.int64(-1)))

    def after(self, descriptors: Any, index: Any) -> list[Any]:
        """A batch and what is remembered, (batch + size, ...): descriptors and rows, -1 where there is none."""
        return [tf.concat(pair, 0) for pair in zip((descriptors, index), self.variables, strict=True)]

    def push(self, descriptors: Any, index: Any) -> None:
        """Take in a batch and forget as many of the oldest."""
        for variable, new in zip(self.variables, (descriptors, index), strict=True):
            variable.assign(tf.concat([variable, new], 0)[tf.shape(new)[0] :])


class _Average:
    """Exponential average of ``of``, variables, over about ``steps`` steps (Polyak and Juditsky 1992, "Acceleration of
    stochastic approximation by averaging"); 0: the variables as they are."""

    def __init__(self, of: list[Any], steps: float) -> None:
        self.of, self.momentum = of if steps else [], steps / (1 + steps)
        self.variables = [tf.Variable(keras.ops.convert_to_tensor(v)) for v in self.of]

    def push(self, iterations: Any) -> None:
        """Take in the variables as they are after so many steps; from the first of them the average starts."""
        momentum = tf.cast(keras.ops.convert_to_tensor(iterations) > 1, tf.float32) * self.momentum
        for average, variable in zip(self.variables, self.of, strict=True):
            average.assign(momentum * average + (1 - momentum) * keras.ops.convert_to_tensor(variable))

    def take(self) -> None:
        """Put the average in the variables' place."""
        for average, variable in zip(self.variables, self.of, strict=True):
            variable.assign(average)


class _Maps:
    """Batches of maps that are computed once and held in memory, and the part of the network that follows them."""

    def __init__(self, trainer: Trainer, cut: str) -> None:
        self.trainer, self.cut = trainer, cut
        self.maps = trainer._maps(cut)
        self.model = trainer.tail(cut)

    def close(self) -> None:
        """Let go of the maps: TensorFlow keeps what `dataset` hands it for good, and this object with it."""
        self.maps = []

    def dataset(self, rows: Ints) -> tf.data.Dataset:
        """Batches of the maps of ``rows`` (steps, n); those of a layer within the backbone are augmented."""
        params = self.trainer.params
        shapes = [m.shape[1:] for m in self.maps]

        def gather(index: Any) -> Any:
            # Called stateless, as which it is read ahead also where ops are made deterministic.
            kinds = [tf.float16] * len(shapes)
            parts = tf.numpy_function(lambda i: [m[i] for m in self.maps], [index], kinds, stateful=False)
            parts = [
                tf.cast(tf.ensure_shape(part, shape), tf.float32) for part, shape in zip(parts, shapes, strict=True)
            ]
            return tuple(parts), index

        def change(gathered: Any, seed: Any) -> Any:
            parts, index = gathered
            return tuple(augment_map(part, seed, params.augment) for part in parts), index

        data = tf.data.Dataset.from_tensor_slices(rows.ravel())
        data = data.map(gather, num_parallel_calls=1)
        if self.cut != network.HEAD:
            data = tf.data.Dataset.zip(data, self.trainer.seeds(rows.size))
            data = data.map(change, num_parallel_calls=1)
        return features.untuned(data.batch(rows.shape[1], drop_remainder=True).prefetch(2))

    def run(self, model: keras.Model, rows: Ints) -> list[Floats]:
        """Outputs of ``model``, which takes these maps, for ``rows``."""
        run = self.trainer.inference(model)
        parts = []
        for start in range(0, len(rows), VALIDATION_BATCH):
            batch = rows[start : start + VALIDATION_BATCH]
            full = np.resize(batch, VALIDATION_BATCH)  # one shape, one graph
            values = run(*[tf.constant(m[full], tf.float32) for m in self.maps])
            parts.append([value.numpy()[: len(batch)] for value in values])
        return [np.concatenate(each) for each in zip(*parts, strict=True)]


class _Pixels:
    """Batches of augmented pictures, read from the shards, and the whole network."""

    cut = network.IMAGE

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.model = trainer.network.whole
        self.pictures = features.Pictures(trainer.crops, trainer.images)

    def close(self) -> None:
        """Nothing is held here."""

    def dataset(self, rows: Ints) -> Iterator[Any]:
        """Batches of the pictures of ``rows`` (steps, n), augmented."""
        params, size = self.trainer.params, self.trainer.params.image_size

        def picture(row: Any, seed: Any) -> Any:
            return augment(features.decode(features.fetch(self.pictures, row), size), seed, params.augment), row

        data = tf.data.Dataset.zip(tf.data.Dataset.from_tensor_slices(rows.ravel()), self.trainer.seeds(rows.size))
        data = data.map(picture, num_parallel_calls=params.threads, deterministic=True)
        with features.named(self.pictures):
            yield from features.untuned(data.batch(rows.shape[1], drop_remainder=True).prefetch(2))

    def run(self, model: keras.Model, rows: Ints) -> list[Floats]:
        """Outputs of ``model``, which takes pixels, for ``rows``."""
        trainer = self.trainer
        run = trainer.inference(model)
        pictures = features.Pictures(trainer.crops, trainer.images.iloc[rows])
        data = features.batches(pictures, trainer.params.image_size, features.BATCH, trainer.params.threads)
        parts = [[value.numpy()[:count].astype(np.float32) for value in run(pixels)] for pixels, count in data]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _inference(model: keras.Model) -> Any:
    """``model`` as a graph that gives its outputs as a list."""
    return tf.function(lambda *inputs: tf.nest.flatten(model(network.shaped(inputs), training=False)))


def _numbered(arrays: dict[str, NDArray[Any]], name: str) -> list[NDArray[Any]]:
    count = sum(key.startswith(name) for key in arrays)
    return [arrays[f"{name}{i}"] for i in range(count)]


def _epoch_seed(phase: int, epoch: int) -> int:
    return phase * 100_000 + epoch
