"""What training minimises: the loss of a batch against itself and against earlier batches, and one step on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from streetrecall.model import losses
from streetrecall.model.collection import Collection
from streetrecall.model.distributed import Team
from streetrecall.model.network import as_input
from streetrecall.model.optimiser import Average
from streetrecall.params.schema import Train

Step = Callable[[Any, Any], tuple[Any, Any]]


class Memory:
    """Descriptors of the latest training pictures, as they were when they were trained on (Wang et al. 2020,
    "Cross-batch memory for embedding learning"). A batch finds many more hard negatives there than in itself."""

    def __init__(self, size: int, dimensions: int) -> None:
        self.variables = (tf.Variable(tf.zeros((size, dimensions))), tf.Variable(tf.fill((size,), np.int64(-1))))

    def clear(self) -> None:
        descriptors, rows = self.variables
        descriptors.assign(tf.zeros_like(descriptors))
        rows.assign(tf.fill(rows.shape, np.int64(-1)))

    def after(self, descriptors: Any, rows: Any) -> list[Any]:
        """A batch followed by the memory: descriptors (batch + size, d) and rows (batch + size,), -1 for none yet."""
        return [tf.concat(pair, 0) for pair in zip((descriptors, rows), self.variables, strict=True)]

    def push(self, descriptors: Any, rows: Any) -> None:
        """Add a batch, and drop as many of the oldest."""
        for variable, new in zip(self.variables, (descriptors, rows), strict=True):
            variable.assign(tf.concat([variable, new], 0)[tf.shape(new)[0] :])


class Objective:
    """The loss that ``train.loss`` and ``train.batch`` describe, over pictures of ``collection``.

    Batches are those of one process, or each process of ``team`` gives its part of them.
    """

    def __init__(self, params: Train, collection: Collection, team: Team) -> None:
        self.memory = Memory(min(params.batch.memory, len(collection.training)), params.head.dimensions)
        self._loss, self._pairs = losses.build(params.loss), collection.pairs
        self._team, self._part = team, team.part(collection.sampler.batch_size)

    def step(self, model: keras.Model, optimizer: Any, average: Average) -> Step:
        """A function that trains ``model`` on a batch of inputs and their rows; it returns loss and active share."""
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

        def find(inputs: Any, rows: Any) -> Any:
            with tf.GradientTape() as tape:
                descriptors = model(as_input(inputs), training=True)
                loss, active = self._judge(descriptors, rows, *self.memory.after(descriptors, rows))
                objective = optimizer.scale_loss(loss) if scaled else loss
            return descriptors, rows, loss, active, tape.gradient(objective, model.trainable_variables)

        def find_in_parts(inputs: Any, rows: Any) -> Any:
            with tf.GradientTape() as network:
                mine = model(as_input(inputs), training=True)
            descriptors, rows = self._team.gather(mine), self._team.gather(rows)
            with tf.GradientTape() as tape:
                tape.watch(descriptors)
                loss, active = self._judge(descriptors, rows, *self.memory.after(descriptors, rows))
                objective = optimizer.scale_loss(loss) if scaled else loss
            own = tape.gradient(objective, descriptors)[self._part]
            gradients = network.gradient(mine, model.trainable_variables, output_gradients=own)
            return descriptors, rows, loss, active, self._team.add(gradients)

        @tf.function
        def step(inputs: Any, rows: Any) -> Any:
            finding = find if self._team.count == 1 else find_in_parts
            descriptors, rows, loss, active, gradients = self._team.run(finding, inputs, rows)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            average.push(optimizer.iterations)
            self.memory.push(descriptors, rows)
            return loss, active

        return step

    def mean(self, model: keras.Model, batches: Iterable[Any]) -> tuple[float, float]:
        """Mean loss and active share over ``batches``, each compared with itself alone, without training."""

        def judge(inputs: Any, rows: Any) -> Any:
            descriptors, rows = self._team.gather(model(as_input(inputs), training=False)), self._team.gather(rows)
            return self._judge(descriptors, rows, descriptors, rows)

        @tf.function
        def run(inputs: Any, rows: Any) -> Any:
            return self._team.run(judge, inputs, rows)

        values = [run(inputs, rows) for inputs, rows in batches]
        return float(np.mean([float(v[0]) for v in values])), float(np.mean([float(v[1]) for v in values]))

    def _judge(self, descriptors: Any, rows: Any, others: Any, others_rows: Any) -> Any:
        similarity = tf.matmul(descriptors, others, transpose_b=True)
        return self._loss(similarity, *self._pairs(rows, others_rows))
