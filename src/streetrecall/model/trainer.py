"""Training in phases: the maps of the frozen layers are computed once, and the rest of the network learns from them.

`Trainer.run` goes through the phases. Each phase starts the head from the data, then trains epoch by epoch. After every
epoch it validates, keeps the best weights and writes a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from streetrecall.imports import code_digest
from streetrecall.model import checkpoint, health, initialise, network, optimiser, runtime
from streetrecall.model.collection import Collection, Ints
from streetrecall.model.distributed import Team
from streetrecall.model.history import Progress, Stopwatch
from streetrecall.model.network import as_input
from streetrecall.model.objective import Objective, Step
from streetrecall.model.sources import MAPS_BATCH, Source, Sources
from streetrecall.params.schema import Phase, Train
from streetrecall.progress import progress as progress_bar
from streetrecall.store import leases

SHOWN_EVERY = 10  # steps
START_IMAGES = 30_000  # training pictures that start the projection: of 10,000 values each they take 1.2 GB
Arrays = list[NDArray[Any]]


@dataclass
class Result:
    """A trained network and how it was trained. ``validation_queries`` counts the queries of each protocol."""

    network: network.Network
    collection: Collection
    progress: Progress
    validation_queries: dict[str, int]


class Trainer:
    """Trains an embedder on ``collection``.

    Args:
        store: folder of caches and checkpoints.
        on_progress: called with the progress after each new row of the curve.
        started: a trained network of the same settings, whose weights the training starts from.
        team: the processes that train together.

    Raises:
        UserError: too few places, weights that are not available, a layer that does not exist or does not fit, or
            batches that the team cannot share.
    """

    def __init__(
        self,
        params: Train,
        collection: Collection,
        store: Path,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        started: network.Network | None = None,
        team: Team | None = None,
    ) -> None:
        self.params, self.on_progress, self._started = params, on_progress, started is not None
        self.team = team or Team()
        self.collection = collection
        self.network = network.build(params.backbone, params.weights, params.image_size, params.head)
        if started is not None:
            network.copy_weights(started, self.network)
        self.validation = collection.validation(params, self.network)
        self.sources = Sources(params, self.collection, self.network, store / "maps")
        for phase in params.phases:  # a wrong layer in any phase is an error now, not after hours of training
            self.sources.tail(phase.trains_after, network.DESCRIPTOR)
        self.objective = Objective(params, self.collection, self.team)
        self.progress = Progress()
        self.best: Arrays = []
        self.state_path = store / "training" / self.key() / "state.npz"

    def key(self) -> str:
        """What the result depends on, as one hash."""
        return hashlib.sha256(json.dumps(self._facts(), sort_keys=True).encode()).hexdigest()[:32]

    def _facts(self) -> dict[str, Any]:
        """What the result depends on: parameters, pictures, weights at the start, code and its libraries."""
        return {
            "params": self.params.model_dump(),
            "pictures": self.collection.digest(),
            "weights": runtime.weights_digest(self.network.whole if self._started else self.network.backbone.network),
            "code": code_digest(__name__),
            **runtime.facts(),
        }

    def run(self) -> Result:
        """Train, or continue a run of the same inputs that was killed.

        Raises:
            UserError: the descriptors collapsed, the loss is no longer finite, or the team's processes differ.
        """
        if self.team.count > 1:
            self.team.check_same(self._facts())
        with leases.lease(self.state_path.parent):
            state = self._resume()
            for number in range(self.progress.phase, len(self.params.phases)):
                phase = self.params.phases[number]
                self._phase(self.sources.open(phase.trains_after), number, phase, state)
                state = None
        self._assign(self.best)
        return Result(self.network, self.collection, self.progress, self.validation.query_counts)

    def forget(self) -> None:
        """Remove the checkpoint. Call it when the result is safely written."""
        leases.discard(self.state_path.parent)

    def _phase(self, source: Source, number: int, phase: Phase, state: Arrays | None) -> None:
        """Train one phase from its start, or from a checkpoint's ``state`` of its optimiser and average."""
        params, progress, sampler = self.params, self.progress, self.collection.sampler
        self._set_trainable(phase)
        steps = phase.steps or max(len(self.collection.training) // sampler.batch_size, 1)
        schedule = optimiser.schedule(params, phase, steps * phase.epochs)
        optimizer = optimiser.build(params, schedule, source.model.trainable_variables)
        if state is None:
            progress.phase, progress.epoch, progress.since_best = number, 0, 0
            if phase.start != "keep":
                self._start_head(source, phase.start)
                if self.team.count > 1:  # on other processors the same start may differ, even in signs
                    self._assign(self.team.told_arrays(self._values()))
        changing = optimiser.changing(source.model, self.network.backbone.network)
        average = optimiser.Average(changing, params.average_epochs * steps)
        variables = [*optimizer.variables, *average.variables]
        if state is None:
            first = sampler.epoch(_epoch_number(number, 0), min(steps, 8))
            self._validate(source, phase, 0.0, self.objective.mean(source.model, self._batches(source, first)))
            self.objective.memory.clear()
            self._save(variables)
        else:
            _set(variables, state)
        step = self.objective.step(source.model, optimizer, average)
        images = steps * sampler.batch_size
        name, done = f"phase {number + 1}", progress.epoch * images
        with progress_bar(phase.epochs * images, name, "image", initial=done) as bar:
            while progress.epoch < phase.epochs and progress.since_best < phase.patience:
                progress.epoch += 1
                rows = sampler.epoch(_epoch_number(number, progress.epoch), steps)
                measured = self._epoch(source, rows, step, bar, lambda: float(schedule(optimizer.iterations)))
                rate = float(schedule(optimizer.iterations))
                trained = self._values()
                average.take()
                self._validate(source, phase, rate, measured)
                self._assign(trained)
                self._show(bar, measured, rate)
                self._save(variables)
        self._assign(self.best)

    def _set_trainable(self, phase: Phase) -> None:
        for position, layer in enumerate(self.network.backbone.network.layers):
            frozen = phase.trains_after == network.IMAGE and position < self.params.frozen_layers
            fixed = isinstance(layer, keras.layers.BatchNormalization) and self.params.batch_norm == "frozen"
            layer.trainable = not (frozen or fixed)
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = self.team.count > 1  # statistics are those of the whole batch

    def _start_head(self, source: Source, start: str) -> None:
        """Set the head from the current maps. The projection is random if ``start`` says so."""
        head, seed, training = self.params.head, self.params.seed, self.collection.training
        to_maps, to_pooled = (self.sources.tail(source.layer, to) for to in (network.MAPS, network.POOLED))
        initialise.start_branches(self.network, head, lambda rows: self._run(source, to_maps, rows), training, seed)
        if start == "random":
            initialise.randomise_projection(self.network, seed)
        else:
            label, copies = self.collection.label, self.params.augment.copies if start == "lda" else 0
            rows = training[initialise.sample(label[training], START_IMAGES // (1 + copies), seed)]
            (vectors,) = self._run(source, to_pooled, rows)
            changed = [self._run_changed(source, to_pooled, rows, copy) for copy in range(copies)]
            vectors = np.concatenate([vectors, *changed]) if changed else vectors
            initialise.start_projection(self.network, head, start, vectors, np.tile(label[rows], 1 + copies), seed)

    def _run(self, source: Source, model: keras.Model, rows: Ints) -> Arrays:
        """Outputs of ``model`` for ``rows``, which the team computes together."""
        return self.team.spread(lambda part: source.run(model, part), rows)

    def _run_changed(self, source: Source, model: keras.Model, rows: Ints, copy: int) -> NDArray[np.float32]:
        """Outputs of ``model`` for changed copies of ``rows``, in their order."""
        run = tf.function(lambda inputs: model(as_input(inputs), training=False))
        batch = min(MAPS_BATCH, len(rows))
        padded = np.resize(rows, -(-len(rows) // batch) * batch).reshape(-1, batch)
        seed = (self.params.seed * 1000 + self.progress.phase, 900_000 + copy)
        parts = [run(inputs).numpy() for inputs, _ in source.batches(padded, seed)]
        return np.concatenate(parts)[: len(rows)]

    def _batches(self, source: Source, rows: Ints) -> Any:
        """Batches of an epoch, of each this process's part; ``rows`` number the training pictures."""
        seed = (self.params.seed * 1000 + self.progress.phase, self.progress.epoch)
        return source.batches(self.collection.training[rows], seed, self.team.part(rows.shape[1]))

    def _epoch(
        self, source: Source, rows: Ints, step: Step, bar: tqdm, rate: Callable[[], float]
    ) -> tuple[float, float]:
        """Train on the batches of ``rows``; mean loss and active share."""
        sums, count, clock = np.zeros(2), 0, Stopwatch()
        for inputs, index in clock.watch(self._batches(source, rows)):
            loss, active = step(inputs, index)
            sums += float(loss), float(active)
            count += 1
            health.check_loss(sums[0], self.params, self.progress)
            if count % SHOWN_EVERY == 1:
                self._show(bar, sums / count, rate())
            bar.update(rows.shape[1])
        self.progress.add_speed(rows.size, clock)
        return float(sums[0] / count), float(sums[1] / count)

    def _show(self, bar: tqdm, measured: Any, rate: float) -> None:
        """Show on the bar loss and active share of the epoch so far, and the last and best validation recall."""
        last = self.progress.rows[-1]["validation_recall"]
        facts = {"loss": f"{measured[0]:.3f}", "active": f"{measured[1]:.1%}", "lr": f"{rate:.2g}"}
        bar.set_postfix(facts | {"recall": f"{last:.4f}", "best": f"{self.progress.score:.4f}"}, refresh=False)

    def _validate(self, source: Source, phase: Phase, rate: float, measured: tuple[float, float]) -> None:
        """Measure the current weights, add a row to the curve, keep the weights if they are the best so far, and find
        the confusions for the next epoch.

        Raises:
            UserError: the descriptors are not finite or have collapsed.
        """
        (descriptors,) = self._run(source, source.model, self.collection.described)
        health.check_finite(descriptors, self.progress)
        recall = self.validation.recall(descriptors)
        spread = health.spread(self.collection.validation_part(descriptors))
        self.progress.add_row(measured, rate, recall, spread)
        self.on_progress(self.progress)
        health.check_spread(spread, self.params, phase, self.progress)
        if self.progress.is_best(recall["mean"]):
            self.best = [np.array(v) for v in self._values()]
        self.collection.update_confusions(descriptors)

    def _values(self) -> Arrays:
        """Values of all variables that training changes, states of random generators (dropout) included."""
        return [keras.ops.convert_to_numpy(v) for v in self.network.whole.variables]

    def _assign(self, values: Arrays) -> None:
        _set(self.network.whole.variables, values)

    def _save(self, variables: list[Any]) -> None:
        """Write a checkpoint; ``variables`` are those of the phase: of its optimiser and its average.

        The chief writes it, and the others of the team go on from it.
        """
        arrays = {
            "weights": self._values(),
            "best": self.best,
            "phase": [keras.ops.convert_to_numpy(v) for v in variables],
            "memory": [v.numpy() for v in self.objective.memory.variables],
            "confusions": [self.collection.sampler.confusions],
        }
        if self.team.chief:
            checkpoint.save(self.state_path, checkpoint.State(vars(self.progress), arrays))
        if self.team.count > 1:
            _set(variables, self._take_over() or [])

    def _resume(self) -> Arrays | None:
        """Take over the state of a checkpoint, if there is one; the values of its phase's variables."""
        values = self._take_over()
        if values is not None:
            after = f"phase {self.progress.phase + 1}, epoch {self.progress.epoch}"
            print(f"resuming after {after} of a run that was stopped")
        return values

    def _take_over(self) -> Arrays | None:
        """Set all but the phase's variables as in the chief's checkpoint, and return the values of these; None if there
        is no checkpoint."""
        found = checkpoint.parse(self.team.told(checkpoint.read(self.state_path) if self.team.chief else b""))
        if found is None:
            return None
        vars(self.progress).update(found.facts)
        arrays = found.arrays
        self._assign(arrays["weights"])
        self.best = arrays["best"]
        (self.collection.sampler.confusions,) = arrays["confusions"]
        _set(self.objective.memory.variables, arrays["memory"])
        return arrays["phase"]


def _set(variables: Any, values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _epoch_number(phase: int, epoch: int) -> int:
    """The sampler's number of an epoch; it decides the batches."""
    return phase * 100_000 + epoch
