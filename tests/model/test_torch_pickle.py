"""Weights are read as they were written; a file that refers to anything else is refused and not run."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from streetrecall.errors import UserError
from streetrecall.model import torch_pickle


class _Name:
    """Pickles as the global ``module.name``."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Call:
    def __init__(self, function: _Name, arguments: tuple) -> None:
        self.function, self.arguments = function, arguments


class _Storage:
    def __init__(self, kind: str, key: str, elements: int) -> None:
        self.pid = ("storage", _Name("torch", kind), key, "cpu", elements, None)


class _Writer(pickle._Pickler):  # type: ignore[name-defined]
    """Writes what torch.save wrote, without torch."""

    def persistent_id(self, obj: object) -> object:
        return obj.pid if isinstance(obj, _Storage) else None

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Name):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


def checkpoint(state: object, storages: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    for part in (torch_pickle.MAGIC, torch_pickle.PROTOCOL, {"little_endian": True}):
        pickle.dump(part, file, protocol=2)
    _Writer(file, protocol=2).dump(state)
    pickle.dump(list(storages), file, protocol=2)
    for data in storages.values():
        file.write(len(data).to_bytes(8, "little") + data.tobytes())
    return file.getvalue()


def tensor(kind: str, key: str, elements: int, offset: int, shape: tuple, stride: tuple) -> _Call:
    rebuild = _Name("torch._utils", "_rebuild_tensor_v2")
    return _Call(rebuild, (_Storage(kind, key, elements), offset, shape, stride, False, OrderedDict()))


def test_tensors_are_views_of_their_storages(tmp_path: Path) -> None:
    data = np.arange(12, dtype="<f4")
    state = OrderedDict(
        a=tensor("FloatStorage", "0", 12, 0, (3, 4), (4, 1)),
        transposed=tensor("FloatStorage", "0", 12, 2, (2, 3), (1, 3)),
        steps=tensor("LongStorage", "1", 1, 0, (), ()),
    )
    path = tmp_path / "weights.pth"
    path.write_bytes(checkpoint(state, {"0": data, "1": np.array([7], "<i8")}))
    loaded = torch_pickle.load(path)
    assert list(loaded) == ["a", "transposed", "steps"]
    assert np.array_equal(loaded["a"], data.reshape(3, 4))
    assert np.array_equal(loaded["transposed"], [[2, 5, 8], [3, 6, 9]])
    assert loaded["steps"] == 7


def test_a_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "weights.pth"
    path.write_bytes(checkpoint(OrderedDict(a=_Call(_Name("os", "mkdir"), (str(mark),))), {}))
    with pytest.raises(UserError, match=r"weights.pth.*os\.mkdir"):
        torch_pickle.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "outside"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    whole = checkpoint(
        OrderedDict(a=tensor("FloatStorage", "0", 4, 3 if damage == "outside" else 0, (4,), (1,))),
        {"0": np.zeros(4, "<f4")},
    )
    path = tmp_path / "weights.pth"
    path.write_bytes({"cut": whole[:-3], "empty": b"", "other": b"not a pickle", "outside": whole}[damage])
    with pytest.raises(UserError, match=r"weights.pth"):
        torch_pickle.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        torch_pickle.load(tmp_path / "none.pth")
