"""TensorFlow made repeatable: threads, seeds and deterministic ops, set before its first op."""

from __future__ import annotations

import os

# Read when TensorFlow is imported. What it logs is of no use to whoever trains; what fails is raised all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def devices() -> list[str]:
    """Kinds of device that TensorFlow computes on here, for what it computes differs from kind to kind.

    >>> "CPU" in devices()
    True
    """
    import tensorflow as tf

    return sorted({device.device_type for device in tf.config.list_physical_devices()})


def configure(threads: int, seed: int, precision: str = "float32") -> None:
    """Fix threads, seeds (Python's, NumPy's, Keras's), precision and the choice of deterministic kernels."""
    import keras
    import tensorflow as tf

    current = tf.config.threading.get_intra_op_parallelism_threads()
    if current != threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError as error:
            raise RuntimeError(f"TensorFlow already runs with {current} threads, {threads} are asked for") from error
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
