"""A scheduler and two workers in network namespaces of their own, and a link that is cut while they work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from streetrecall.params.schema import Params

TESTS = Path(__file__).parents[1]
LINKS = ("10.213.1", "10.213.2")  # one from the scheduler to each worker
# A busy machine may keep a worker that is well from answering for some seconds.
SETTINGS = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "25s"}
# Imported before a worker registers: the imports hold its event loop.
NEEDED = "streetrecall.stages.scrape"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespaces() -> Iterator[list[str]]:
    """Names of three namespaces: the scheduler's, and one of each worker with a link to it; see `LINKS`."""
    names = [f"sr{os.getpid()}{part}" for part in ("s", "a", "b")]
    with ExitStack() as undo:
        try:
            for name in names:
                ip("netns", "add", name)
                undo.callback(ip, "netns", "del", name)
                ip("-n", name, "link", "set", "lo", "up")
            for name, link in zip(names[1:], LINKS, strict=True):
                ip("-n", names[0], "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("-n", names[0], "addr", "add", f"{link}.1/24", "dev", name)
                ip("-n", name, "addr", "add", f"{link}.2/24", "dev", "eth0")
                ip("-n", names[0], "link", "set", name, "up")
                ip("-n", name, "link", "set", "eth0", "up")
                ip("-n", name, "route", "add", "default", "via", f"{link}.1")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        yield names


@pytest.mark.slow
def test_a_worker_whose_link_is_cut_loses_nothing(params: Params, namespaces: list[str], tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    if shutil.which("dask") is None:
        pytest.skip("the command dask is not on PATH")
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | SETTINGS | {"PYTHONPATH": path}
    scheduler = f"tcp://{LINKS[0]}.1:8786"

    with ExitStack() as running:

        def start(name: str, *command: str) -> subprocess.Popen[str]:
            log = running.enter_context((tmp_path / f"{name}.log").open("a"))
            process = subprocess.Popen(
                ["ip", "netns", "exec", name, *command], env=environment, text=True, stderr=log,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if "cutlink.py" in command[1] else log,
            )  # fmt: skip
            running.enter_context(process)
            running.callback(process.kill)
            return process

        start(namespaces[0], "dask", "scheduler", "--port", "8786", "--no-dashboard", "--no-show")
        for name in namespaces[1:]:
            options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", NEEDED)
            start(name, "dask", "worker", scheduler, *options)
        client = start(
            namespaces[0], sys.executable, str(TESTS / "cutlink.py"), str(tmp_path), scheduler, f"{LINKS[0]}.1"
        )
        assert client.stdout is not None
        assert client.stdout.readline() == "both\n"
        ip("-n", namespaces[0], "link", "set", namespaces[2], "down")
        found = json.loads(client.stdout.readline())
        assert client.wait() == 0
    alone, cluster = found["alone"], found["cluster"]
    assert cluster["files"] == alone["files"]
    assert cluster["hosts"] == [f"{link}.2" for link in LINKS]
    assert set(cluster["asked"]) == set(alone["asked"])
    lost = sum(cluster["asked"].values()) - sum(alone["asked"].values())
    assert 0 <= lost <= params.network.threads  # those that the worker had under way
