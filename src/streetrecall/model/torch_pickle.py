"""Read the tensors of a legacy PyTorch checkpoint (``torch.save`` before 1.6) without PyTorch, and run no code of it.

The file is a sequence of pickles (magic number, protocol version, system facts, the state dict, the storage keys),
followed by the raw storages, each as its length in elements (int64, little-endian) and its elements. The unpickler
accepts the few names that a state dict needs and no other, so a tampered file cannot run code.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _StorageType(NamedTuple):
    dtype: str


@dataclass
class _Storage:
    dtype: str
    elements: int


class _Tensor(NamedTuple):
    key: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which a table of weights does not need")

    def persistent_load(self, pid: Any) -> str:
        kind, storage, key, _location, elements, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("a storage is described in an unknown way")
        self.storages[str(key)] = _Storage(storage.dtype, int(elements))
        return str(key)


def _rebuild(key: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(key, offset, tuple(shape), tuple(stride))


def load(path: str | Path) -> dict[str, NDArray[Any]]:
    """The state dict of ``path`` as NumPy arrays, in the file's order and PyTorch's layout (convolutions are OIHW).

    Raises:
        UserError: no such file, another format, something other than tensors inside, or a truncated file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _load(file)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file of weights") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: not a plain PyTorch table of weights: {error}") from error


def _load(file: BinaryIO) -> dict[str, NDArray[Any]]:
    if _Unpickler(file).load() != MAGIC or _Unpickler(file).load() != PROTOCOL:
        raise ValueError("not in the legacy format of torch.save")
    if not _Unpickler(file).load().get("little_endian", False):
        raise ValueError("written on a big-endian machine")
    unpickler = _Unpickler(file)
    state = unpickler.load()
    if not isinstance(state, dict) or not all(isinstance(v, _Tensor) for v in state.values()):
        raise ValueError("it holds something other than named tensors")
    data: dict[str, NDArray[Any]] = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        elements = int.from_bytes(file.read(8), "little")
        raw = file.read(elements * np.dtype(storage.dtype).itemsize)
        if elements != storage.elements or len(raw) != elements * np.dtype(storage.dtype).itemsize:
            raise ValueError("truncated")
        data[key] = np.frombuffer(raw, storage.dtype)
    return {name: _view(data[tensor.key], tensor) for name, tensor in state.items()}


def _view(storage: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, storage.dtype)
    if tensor.offset < 0 or min(tensor.stride, default=0) < 0 or last >= storage.size:
        raise ValueError("a tensor lies outside its storage")
    strides = tuple(s * storage.itemsize for s in tensor.stride)
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")
