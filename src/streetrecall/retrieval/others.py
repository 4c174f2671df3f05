"""Descriptor networks of others, from ONNX or LiteRT files: they run as they are, and nothing of them is trained."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.params.schema import NetworkFile

Floats = NDArray[np.float32]
_PACKAGES = {".onnx": ("onnxruntime", "onnxruntime"), ".tflite": ("ai_edge_litert.interpreter", "ai-edge-litert")}


class OtherNetwork:
    """The network of a file below ``folder``, on so many threads.

    Raises:
        UserError: there is no such file, it is no network that takes pictures, or the package that runs it is missing.
    """

    def __init__(self, settings: NetworkFile, folder: Path, threads: int) -> None:
        self._settings = settings
        self.path = folder / settings.file
        if self.path.suffix not in _PACKAGES:
            raise UserError(f"baseline.networks: {settings.name}: {settings.file} is neither .onnx nor .tflite")
        if not self.path.is_file():
            raise UserError(f"baseline.networks: {settings.name}: {self.path}: there is no such file")
        module, package = _PACKAGES[self.path.suffix]
        try:
            library = importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"baseline.networks: {settings.name}: needs a package: pip install {package}") from error
        opener = _open_onnx if self.path.suffix == ".onnx" else _open_litert
        try:
            self._run, shape = opener(library, self.path, threads)
        except Exception as error:  # each library raises errors of its own
            raise UserError(f"{self.path}: not a network that can be read ({_first_line(error)})") from error
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise UserError(f"{self.path}: its input has the shape {list(shape)}, not one of pictures in three colours")
        self._colours_first = shape[1] == 3

    def describe(self, pictures: NDArray[np.uint8]) -> Floats:
        """Descriptors (n, d) of unit norm of ``pictures`` (n, size, size, 3), red first.

        Raises:
            UserError: the network refuses the pictures, or its first output is not one descriptor for each.
        """
        mean, deviation = (np.asarray(v, np.float32) for v in (self._settings.mean, self._settings.deviation))
        batch = (pictures.astype(np.float32) / 255.0 - mean) / deviation
        if self._colours_first:
            batch = batch.transpose(0, 3, 1, 2)
        try:
            # One by one: a file may fix the size of its batch, and results must not depend on the neighbours.
            found = np.concatenate([np.asarray(self._run(np.ascontiguousarray(b[None]))) for b in batch])
        except Exception as error:
            raise UserError(
                f"{self.path}: it cannot describe pictures of {self._settings.size} pixels ({_first_line(error)}); "
                f"compare baseline.networks: size with its export"
            ) from error
        descriptors = found.reshape(len(found), -1).astype(np.float32)
        if len(descriptors) != len(pictures) or not np.isfinite(descriptors).all():
            raise UserError(f"{self.path}: its first output is not one descriptor for each picture, of finite numbers")
        norm = np.linalg.norm(descriptors, axis=1, keepdims=True)
        equal = np.full(descriptors.shape, descriptors.shape[1] ** -0.5, np.float32)
        return np.asarray(np.where(norm > 0, descriptors / np.where(norm > 0, norm, 1), equal), np.float32)


def _open_onnx(library: Any, path: Path, threads: int) -> tuple[Callable[[Floats], Any], tuple[Any, ...]]:
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken, given = session.get_inputs()[0], session.get_outputs()[0].name
    return lambda picture: session.run([given], {taken.name: picture})[0], tuple(taken.shape)


def _open_litert(library: Any, path: Path, threads: int) -> tuple[Callable[[Floats], Any], tuple[Any, ...]]:
    interpreter = library.Interpreter(model_path=str(path), num_threads=threads)
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    shape = tuple(int(n) for n in taken.get("shape_signature", taken["shape"]))

    def run(picture: Floats) -> Any:
        interpreter.resize_tensor_input(taken["index"], picture.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], picture)
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])

    return run, shape


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
