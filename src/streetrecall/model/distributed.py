"""Training on several machines: each worker takes its part of every batch, and all make the same steps.

``TF_CONFIG``, TensorFlow's own variable for this, names the workers. All run the same command on the same data. The
descriptors of a batch are gathered, so that the loss sees all of its pairs; the gradients of the parts are summed. So
the weights are those of one process, up to rounding. The first worker is the chief: it alone writes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from streetrecall.errors import UserError
from streetrecall.quiet import quiet

VARIABLE = "TF_CONFIG"
WAIT_S = 600.0  # for the other workers to start
BLOCK_BYTES = 1 << 26  # sent at once
# Errors of a collective operation whose other side is gone.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)
Ints = NDArray[np.int64]
Arrays = list[NDArray[Any]]


class Team:
    """The processes that train together; here, one that does everything itself.

    Attributes:
        count: how many there are.
        task: which of them this is.
    """

    count, task = 1, 0

    @property
    def chief(self) -> bool:
        """Whether this process writes the checkpoint and the outputs."""
        return self.task == 0

    def part(self, size: int) -> slice:
        """This process's pictures of a batch of ``size``.

        Raises:
            UserError: there are fewer pictures than processes.
        """
        return slice(None)

    def run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Call ``function`` within a graph. It may call `gather` and `add`."""
        return function(*inputs)

    def gather(self, tensor: Any) -> Any:
        """The parts of all processes, joined along the first axis."""
        return tensor

    def add(self, tensors: list[Any]) -> list[Any]:
        """The sum of each tensor over all processes; None stays None."""
        return tensors

    def spread(self, run: Callable[[Ints], Arrays], rows: Ints) -> Arrays:
        """``run(rows)``, where each process runs a part of ``rows``, and all get the whole."""
        return run(rows)

    def told(self, data: bytes) -> bytes:
        """What the chief gives as ``data``."""
        return data

    def told_arrays(self, arrays: Arrays) -> Arrays:
        """The chief's ``arrays``; all give arrays of the same shapes."""
        data, found = self.told(b"".join(array.tobytes() for array in arrays)), []
        for array in arrays:
            own, data = data[: array.nbytes], data[array.nbytes :]
            found.append(np.frombuffer(own, array.dtype).reshape(array.shape))
        return found

    def check_same(self, facts: dict[str, Any]) -> None:
        """Make sure that all processes have the same ``facts``, values for JSON of the same keys.

        Raises:
            UserError: another process has others; says which facts differ.
        """

    def wait(self) -> None:
        """Return when all processes have come here."""


@dataclass(frozen=True)
class Cluster:
    """Addresses of the workers, HOST:PORT, the chief's first, and which of them this process is."""

    addresses: tuple[str, ...]
    task: int


class Workers(Team):
    """Several processes, of which this is one. Create it before TensorFlow's first op; it waits for the others.

    Raises:
        UserError: another worker does not come, or this one cannot listen on its port.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._addresses = cluster.addresses
        self.count, self.task = len(cluster.addresses), cluster.task
        _meet(cluster)
        tf.get_logger().setLevel(logging.ERROR)  # it reports every collective operation
        spec = tf.train.ClusterSpec({"worker": list(cluster.addresses)})
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            spec, task_type="worker", task_id=cluster.task, rpc_layer="grpc"
        )
        try:
            with quiet():  # TensorFlow's log of its server
                self._strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        except (*LOST, tf.errors.InternalError) as error:
            raise self.lost(error) from error
        if self._strategy.num_replicas_in_sync != self.count:
            raise UserError(
                f"{self._strategy.num_replicas_in_sync} devices train in {self.count} workers; a worker trains on one: "
                "choose a GPU for each by CUDA_VISIBLE_DEVICES, and start as many workers on a machine as it has GPUs"
            )
        # One graph for each kind of tensor: TensorFlow warns of a graph that takes several.
        self._graph = cache(lambda function, _dtype, _shape: tf.function(partial(self.run, function), autograph=False))

    def part(self, size: int) -> slice:
        if size < self.count:
            raise UserError(
                f"{VARIABLE}: {self.count} workers cannot share batches of {size} pictures; start fewer, or take "
                "larger batches (train.batch, for views train.views)"
            )
        return slice(size * self.task // self.count, size * (self.task + 1) // self.count)

    def run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        return self._strategy.run(function, args=inputs)

    def gather(self, tensor: Any) -> Any:
        # The identity gives the tensor a device, without which TensorFlow refuses it.
        joined = tf.distribute.get_replica_context().all_gather(tf.identity(tensor), 0)
        return tf.ensure_shape(joined, (None, *tensor.shape[1:]))

    def add(self, tensors: list[Any]) -> list[Any]:
        given = [tf.identity(tensor) for tensor in tensors if tensor is not None]
        sums = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, given))
        return [None if tensor is None else next(sums) for tensor in tensors]

    def spread(self, run: Callable[[Ints], Arrays], rows: Ints) -> Arrays:
        if len(rows) < self.count:
            return run(rows)
        parts = np.array_split(rows, self.count)
        counts = [len(part) for part in parts]
        return [self._joined(np.asarray(values, np.float32), counts) for values in run(parts[self.task])]

    def _joined(self, values: NDArray[np.float32], counts: list[int]) -> NDArray[np.float32]:
        """The rows of all workers, of whom each has ``counts`` rows ``values``."""
        padded = np.concatenate([values, np.zeros((max(counts) - len(values), *values.shape[1:]), np.float32)])
        step = max(1, BLOCK_BYTES // max(padded[0].nbytes, 1))
        blocks = []
        for start in range(0, len(padded), step):
            block = padded[start : start + step]
            blocks.append(self._gathered(block).reshape(self.count, *block.shape))
        whole = np.concatenate(blocks, axis=1)
        return np.concatenate([whole[task, :count] for task, count in enumerate(counts)])

    def _gathered(self, values: NDArray[Any]) -> NDArray[Any]:
        """`gather` outside of a graph."""
        joined = self._graph(self.gather, values.dtype, values.shape)(tf.constant(values))
        return np.asarray(joined.numpy())

    def told(self, data: bytes) -> bytes:
        size = int(self._from_chief(np.array([len(data)], np.int64))[0])
        blocks = []
        for start in range(0, size, BLOCK_BYTES):
            length = min(BLOCK_BYTES, size - start)
            words = np.zeros(1 << (-(-length // 8) - 1).bit_length(), np.int64)  # few sizes, so few graphs
            if self.chief:
                words.view(np.uint8)[:length] = np.frombuffer(data, np.uint8, length, start)
            blocks.append(self._from_chief(words).view(np.uint8)[:length].tobytes())
        return b"".join(blocks)

    def _from_chief(self, words: Ints) -> Ints:
        """The chief's ``words``: the sum with the zeros of the others, which is exact for whole numbers."""
        given = tf.constant(words if self.chief else np.zeros_like(words))
        (found,) = self._graph(self.add, words.dtype, words.shape)([given])
        return np.asarray(found.numpy())

    def check_same(self, facts: dict[str, Any]) -> None:
        digests = [hashlib.sha256(json.dumps(facts[name], sort_keys=True).encode()).digest() for name in sorted(facts)]
        mine = np.array([[int.from_bytes(digest[:8], "big", signed=True) for digest in digests]], np.int64)
        everyone = self._gathered(mine)
        other, which = np.nonzero(everyone != everyone[0])
        if len(other):
            names = ", ".join(name for position, name in enumerate(sorted(facts)) if position in which)
            raise UserError(
                f"{VARIABLE}: {self._name(int(other[0]))} and {self._name(0)} would not train the same: they differ "
                f"in {names}. All workers need the same code of streetrecall, libraries, kind of device, params.yaml "
                "and data"
            )

    def wait(self) -> None:
        self._from_chief(np.zeros(1, np.int64))

    def lost(self, error: Exception) -> UserError:
        """What to tell a person of one of the errors `LOST`."""
        named = {int(task) for task in re.findall(r"task:(\d+)", str(error))} - {self.task}
        who = " and ".join(self._name(task) for task in sorted(named) if task < self.count) or "another worker"
        return UserError(
            f"{who} ended or can no longer be reached, so {self._name(self.task)} stops too. See what it printed last, "
            "then start all workers again: they continue after the last epoch that was finished"
        )

    def _name(self, task: int) -> str:
        return _name(self._addresses, task)


@contextmanager
def join(text: str | None) -> Iterator[Team]:
    """The processes that ``text``, the value of ``TF_CONFIG``, names, for the block; one alone if it names none.

    Begin it before TensorFlow's first op. It waits until all processes are there.

    Raises:
        UserError: see `parse` and `Workers`; or another process is gone before the block has ended.
    """
    cluster = parse(text or "")
    if cluster is None:
        yield Team()
        return
    workers = Workers(cluster)
    try:
        yield workers
    except LOST as error:
        raise workers.lost(error) from error


Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}$")]


class _Jobs(BaseModel, extra="forbid"):
    chief: list[Address] = Field([], max_length=1)
    worker: list[Address] = []


class _Task(BaseModel):
    type: Literal["chief", "worker"]
    index: NonNegativeInt


class _Config(BaseModel):
    cluster: _Jobs
    task: _Task


def parse(text: str) -> Cluster | None:
    """The workers that ``text``, the value of ``TF_CONFIG``, names; None if there are not two or more.

    The job ``chief``, which some schedulers write, is the first worker.

    >>> parse('{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 1}}')
    Cluster(addresses=('a:2222', 'b:2222'), task=1)
    >>> parse('{"cluster": {}}'), parse("")
    (None, None)

    Raises:
        UserError: the text is no such JSON, names other jobs, or has no such task.
    """
    try:
        raw = json.loads(text or "{}")
        if isinstance(raw, dict) and not raw.get("cluster"):
            return None
        config = _Config.model_validate(raw)
    except (json.JSONDecodeError, ValidationError) as error:
        wrong = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in wrong["loc"])
        raise UserError(f"{VARIABLE}: {where + ': ' if where else ''}{wrong['msg']}; {_example()}") from error
    jobs, task = config.cluster, config.task
    addresses = (*jobs.chief, *jobs.worker)
    if task.index >= len(getattr(jobs, task.type)):
        raise UserError(
            f"{VARIABLE}: task.index is {task.index}, and cluster.{task.type} has no such entry; {_example()}"
        )
    if len(set(addresses)) < len(addresses):
        raise UserError(f"{VARIABLE}: two workers have the same address; {_example()}")
    if any(int(address.rpartition(":")[2]) > 65535 for address in addresses):
        raise UserError(f"{VARIABLE}: a port is at most 65535; {_example()}")
    number = task.index + (len(jobs.chief) if task.type == "worker" else 0)
    return Cluster(addresses, number) if len(addresses) > 1 else None


def _example() -> str:
    example = {"cluster": {"worker": ["HOST0:2222", "HOST1:2222"]}, "task": {"type": "worker", "index": 0}}
    return f"write it as {json.dumps(example)}, or remove it to train in one process"


def _meet(cluster: Cluster) -> None:
    """Wait until all workers listen on their ports.

    TensorFlow waits by itself too, but for an hour, without a word, and deaf to Ctrl-C.

    Raises:
        UserError: one does not answer, or the port of this one is in use here.
    """
    port = int(cluster.addresses[cluster.task].rpartition(":")[2])
    missing = [task for task in range(len(cluster.addresses)) if task != cluster.task]
    until, told = time.monotonic() + WAIT_S, False
    try:
        listener = socket.create_server(("", port))
    except OSError as error:
        mine = _name(cluster.addresses, cluster.task)
        raise UserError(
            f"{VARIABLE}: this is {mine}, and it cannot listen on port {port} ({error.strerror}); end the program that "
            "uses the port, or give this worker another one, in the variable of all workers"
        ) from error
    with listener:
        while missing:
            host, _, other = cluster.addresses[missing[0]].rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(other)), timeout=5).close()
                missing.pop(0)
                continue
            except OSError as error:
                reason = str(error)
            name = _name(cluster.addresses, missing[0])
            if time.monotonic() > until:
                raise UserError(
                    f"{VARIABLE}: {name} does not answer after {WAIT_S:.0f} s ({reason}). Start the same command "
                    "there, and see that its port can be reached from here"
                )
            if not told:
                print(f"{_name(cluster.addresses, cluster.task)} waits for {name}", flush=True)
                told = True
            time.sleep(0.2)


def _name(addresses: tuple[str, ...], task: int) -> str:
    return f"worker {task} ({addresses[task]})"
