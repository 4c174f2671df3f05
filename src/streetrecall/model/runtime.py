"""Settings of TensorFlow that make a run repeatable: threads, seeds, deterministic ops."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

# TensorFlow reads this at import. Its log does not help users, and it raises errors all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def devices() -> list[str]:
    """Kinds of device that TensorFlow computes on here. Results differ between kinds.

    >>> "CPU" in devices()
    True
    """
    import tensorflow as tf

    return sorted({device.device_type for device in tf.config.list_physical_devices()})


def facts() -> dict[str, Any]:
    """Libraries, devices and precision, on which the last digits of every result depend, as values for JSON."""
    import keras
    import keras_cv
    import tensorflow as tf

    return {
        "libraries": [np.__version__, tf.__version__, keras.__version__, keras_cv.__version__],
        "devices": devices(),
        "policy": keras.config.dtype_policy().name,
    }


def weights_digest(model: Any) -> str:
    """SHA-256 of the weights of a Keras model, in order."""
    import keras

    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(str(tuple(weight.shape)).encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return digest.hexdigest()


def configure(threads: int, seed: int, precision: str = "float32") -> None:
    """Set threads, seeds (Python's, NumPy's, Keras's), precision and deterministic kernels.

    Call it before TensorFlow's first op.

    Raises:
        RuntimeError: TensorFlow already runs with another number of threads.
    """
    import keras
    import tensorflow as tf

    current = tf.config.threading.get_intra_op_parallelism_threads()
    if current != threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError as error:
            raise RuntimeError(f"TensorFlow already runs with {current} threads, not with {threads}") from error
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
