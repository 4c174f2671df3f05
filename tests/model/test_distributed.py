"""Training by several processes: as by one, up to rounding; and errors that a person can act on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from test_trainer import command, contents, curve_of, run, write_params  # noqa: E402

from streetrecall.errors import UserError  # noqa: E402
from streetrecall.model import distributed  # noqa: E402

PHASES = [
    {
        "start": "lda",
        "trains_after": "block2b_add",
        "epochs": 2,
        "steps": 2,
        "learning_rate": 0.001,
        "patience": 2,
    }
]


def config(addresses: list[str], index: int = 0, kind: str = "worker", **jobs: Any) -> str:
    return json.dumps({"cluster": {"worker": addresses, **jobs}, "task": {"type": kind, "index": index}})


def free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]


class Running:
    """Two workers that train on ``crops``, each with a store of its own below ``home``; their logs are there too."""

    def __init__(self, params: Path, crops: Path, home: Path) -> None:
        addresses = free_addresses(2)
        self.logs = [home / f"log{task}" for task in range(2)]
        self.stores = [home / f"store{task}" for task in range(2)]
        self.processes = []
        for task in range(2):
            (home / f"out{task}").mkdir(parents=True, exist_ok=True)
            variables = {"STREETRECALL_STORE": str(self.stores[task]), "TF_CONFIG": config(addresses, task)}
            with self.logs[task].open("w") as log:
                process = subprocess.Popen(
                    command("train", params, crops, home / f"out{task}"),
                    env=os.environ | variables | {"PYTHONUNBUFFERED": "1"},
                    stdout=log,
                    stderr=log,
                )
            self.processes.append(process)

    def texts(self) -> list[str]:
        return [log.read_text(encoding="utf-8") for log in self.logs]


@contextlib.contextmanager
def running(params: Path, crops: Path, home: Path) -> Iterator[Running]:
    workers = Running(params, crops, home)
    try:
        yield workers
    finally:
        for process in workers.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def together(tiny_crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two workers. Nine pictures a batch, so that their parts differ in size."""
    home = tmp_path_factory.mktemp("together")
    params = write_params(home, phases=PHASES, warmup_steps=0, batch_norm="trained", min_spread=0.0)
    params.write_text(params.read_text(encoding="utf-8").replace("images: 2", "images: 3"), encoding="utf-8")
    params.write_text(params.read_text(encoding="utf-8").replace("places: 4", "places: 3"), encoding="utf-8")
    with running(params, tiny_crops, home) as workers:
        codes = [process.wait(500) for process in workers.processes]
        assert codes == [0, 0], workers.texts()
    return home


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    import h5py

    found: dict[str, np.ndarray] = {}
    with h5py.File(folder / "embedder/embedder.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None)
    return found


@pytest.mark.slow
def test_two_workers_train_as_one_process(together: Path, tiny_crops: Path, tmp_path: Path) -> None:
    done = run("train", together / "params.yaml", tiny_crops, tmp_path / "one", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    one, two = curve_of(tmp_path / "one"), curve_of(together / "out0")
    assert one["epoch"].tolist() == two["epoch"].tolist() == [0, 1, 2]
    assert np.allclose(one["loss"], two["loss"], rtol=1e-3)
    assert np.allclose(one["spread"], two["spread"], rtol=1e-3)
    expected, found = weights_of(tmp_path / "one"), weights_of(together / "out0")
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert np.allclose(values, found[name], rtol=1e-3, atol=2e-4), (name, np.abs(values - found[name]).max())


@pytest.mark.slow
def test_the_chief_alone_writes(together: Path) -> None:
    written = {"embedder/config.json", "embedder/embedder.tflite", "embedder/embedder.weights.h5"}
    assert set(contents(together / "out0")) == written | {"train.csv", "train.json"}
    assert not contents(together / "out1")
    assert not list(together.glob("store*/training/*/*"))


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_other_with_advice_and_both_resume(
    together: Path, tiny_crops: Path, tmp_path: Path
) -> None:
    with running(together / "params.yaml", tiny_crops, tmp_path) as workers:
        chief, other = workers.processes
        while not list(workers.stores[0].glob("training/*/state.npz")):
            assert chief.poll() is None, workers.texts()
            time.sleep(0.05)
        other.send_signal(signal.SIGKILL)
        assert chief.wait(200) == 2, workers.texts()
        text = workers.texts()[0]
        assert "worker 1 (127.0.0.1:" in text
        assert "ended or can no longer be reached" in text
        assert "start all workers again" in text
        assert "Traceback" not in text
    assert not list(workers.stores[1].glob("training/*/state.npz"))
    with running(together / "params.yaml", tiny_crops, tmp_path) as workers:
        codes = [process.wait(500) for process in workers.processes]
        assert codes == [0, 0], workers.texts()
        assert all("resuming after phase 1, epoch" in text for text in workers.texts())
    assert contents(tmp_path / "out0") == contents(together / "out0")


@pytest.mark.parametrize(
    ("text", "task"),
    [
        (config(["a:1", "b:2"], 1), 1),
        (config(["b:2"], 0, chief=["a:1"]), 1),
        (config(["b:2"], 0, "chief", chief=["a:1"]), 0),
    ],
)
def test_the_chief_comes_first(text: str, task: int) -> None:
    assert distributed.parse(text) == distributed.Cluster(("a:1", "b:2"), task)


@pytest.mark.parametrize("text", ["", "{}", '{"cluster": {}}', config(["a:1"])])
def test_without_other_workers_one_process_trains(text: str) -> None:
    with distributed.join(text) as team:
        assert (team.count, team.chief) == (1, True)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "Expecting property name"),
        ("[1]", "valid dictionary"),
        (config(["a:1", "b"]), r"cluster\.worker\.1"),
        (config(["a:1", "b:70000"]), "a port is at most 65535"),
        (config(["a:1", "a:1"]), "same address"),
        (config(["a:1", "b:1"], 2), r"task\.index is 2"),
        (config(["a:1", "b:1"], kind="ps"), r"task\.type"),
        (config(["a:1", "b:1"], ps=["c:1"]), r"cluster\.ps"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "task"),
    ],
)
def test_what_is_wrong_with_the_variable_is_named(text: str, wrong: str) -> None:
    with pytest.raises(UserError, match=rf"TF_CONFIG: .*{wrong}.*write it as"):
        distributed.parse(text)


def test_a_worker_that_does_not_come_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distributed, "WAIT_S", 0.3)
    here, there = free_addresses(2)
    with pytest.raises(UserError, match=rf"worker 1 \({there}\) does not answer after"):
        distributed.Workers(distributed.Cluster((here, there), 0))
    assert f"worker 0 ({here}) waits for worker 1 ({there})" in capsys.readouterr().out


def test_a_port_that_is_in_use_is_named() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"worker 1 \(127\.0\.0\.1:{port}\), and it cannot listen on port {port}"):
            distributed.Workers(distributed.Cluster(("127.0.0.1:1", f"127.0.0.1:{port}"), 1))


def workers_without_network(task: int, count: int) -> distributed.Workers:
    workers = object.__new__(distributed.Workers)
    workers.task, workers.count, workers._addresses = task, count, tuple(f"host{n}:1" for n in range(count))
    return workers


def test_workers_with_other_facts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, sent = workers_without_network(0, 3), []
    monkeypatch.setattr(workers, "_gathered", lambda values: sent.append(values) or values, raising=False)
    mine, others = {"code": "a", "params": {"seed": 1}}, {"code": "a", "params": {"seed": 2}}
    workers.check_same(mine)
    workers.check_same(others)
    same, different = sent
    monkeypatch.setattr(workers, "_gathered", lambda values: np.concatenate([values, same, same]))
    workers.check_same(mine)
    monkeypatch.setattr(workers, "_gathered", lambda values: np.concatenate([values, same, different]))
    with pytest.raises(UserError, match=r"worker 2 \(host2:1\) and worker 0 \(host0:1\) .*differ in params\."):
        workers.check_same(mine)


def test_one_that_is_gone_is_named() -> None:
    text = "Collective ops is aborted by: Error reported from /job:worker/task:0: /job:worker/replica:0/task:2 is down"
    error = tf.errors.UnavailableError(None, None, text)
    assert str(workers_without_network(0, 3).lost(error)).startswith("worker 2 (host2:1) ended or can no longer")
    error = tf.errors.UnavailableError(None, None, "Connection reset by peer")
    assert str(workers_without_network(1, 3).lost(error)).startswith("another worker ended or can no longer")


@pytest.mark.parametrize("count", [2, 3, 4])
def test_parts_are_a_batch_in_order(count: int) -> None:
    teams = [workers_without_network(task, count) for task in range(count)]
    for size in (4, 9, 128):
        parts = [np.arange(size)[team.part(size)] for team in teams]
        assert np.concatenate(parts).tolist() == list(range(size))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(UserError, match="cannot share batches of 1 pictures"):
        teams[0].part(1)
