"""Work on a Dask cluster of real worker processes: the same results, lost workers, and items that kill workers."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from daskcluster import scheduler

from streetrecall import cluster
from streetrecall.errors import UserError
from streetrecall.parallel import map_in_order

__all__ = ["scheduler"]  # a fixture

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def address(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.ADDRESS, scheduler)


def worker_of(item: int) -> tuple[int, str]:
    return os.getpid(), str(Path.cwd())


def square_or_die(folder: Path, deaths: int, item: int) -> int:
    """The square; item 3 kills its worker so often."""
    if item == 3 and len(list(folder.iterdir())) < deaths:
        (folder / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item**2


def fail_at_two(item: int) -> int:
    if item == 2:
        raise UserError("item 2 is bad")
    return item


def test_work_is_done_by_the_workers_in_the_folder_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(map_in_order(worker_of, range(40)))
    assert len({pid for pid, _ in found}) == 2
    assert os.getpid() not in {pid for pid, _ in found}
    assert {folder for _, folder in found} == {str(tmp_path)}
    assert {pid for pid, _ in map_in_order(worker_of, range(4), use_processes=False)} == {os.getpid()}


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    assert list(map_in_order(partial(square_or_die, tmp_path, 1), range(20))) == [n**2 for n in range(20)]
    assert len(list(tmp_path.iterdir())) == 1


def test_an_item_that_kills_workers_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(UserError, match=r"workers died on item 4 of 6 \(3\); the others were computed"):
        done.extend(map_in_order(partial(square_or_die, tmp_path, 100), range(6)))
    assert done == [0, 1, 4]
    assert len(list(tmp_path.iterdir())) == 2  # the item was tried by two workers


def test_an_error_of_a_task_is_the_error_of_the_caller() -> None:
    with pytest.raises(UserError, match="item 2 is bad"):
        list(map_in_order(fail_at_two, range(4)))


def test_no_scheduler_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAIT_S", 1)
    monkeypatch.setenv(cluster.ADDRESS, "tcp://127.0.0.1:9")
    with pytest.raises(UserError, match=r"STREETRECALL_CLUSTER=tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        list(map_in_order(worker_of, range(4)))


def test_workers_with_other_code_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getpid()
    right = cluster._digest_of_all_code
    monkeypatch.setattr(cluster, "_digest_of_all_code", lambda: right() if os.getpid() != own else "other")
    with pytest.raises(UserError, match="has other code of streetrecall"):
        list(map_in_order(worker_of, range(4)))
