"""Settings of the user's machine that would change results, replaced before any library reads them.

`streetrecall/__init__.py` calls `fix` first of all, so the same commit gives the same results whatever the shell and
the home folder say. Settings that only choose resources (threads, devices, mirrors, proxies) are left alone.
"""

from __future__ import annotations

import os
import platform

import platformdirs

# Removed: the libraries' own defaults hold.
DROPPED = (
    "KERAS_MAX_EPOCHS",  # shortens training
    "KERAS_MAX_STEPS_PER_EPOCH",
    "KERAS_NNX_ENABLED",
    "TF_USE_LEGACY_KERAS",  # takes Keras 2, which cannot read the code
    "TF_ENABLE_ONEDNN_OPTS",  # changes the last digits of every convolution
    "ONEDNN_MAX_CPU_ISA",  # chooses other kernels, which round in their own way
    "DNNL_MAX_CPU_ISA",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
    "NVIDIA_TF32_OVERRIDE",
    "MATPLOTLIBRC",
    "PROJ_DATA",  # another program's table of coordinate systems
    "PROJ_LIB",
    "PROJ_AUX_DB",
    "FREETYPE_PROPERTIES",  # changes how letters are drawn
)


def fix() -> None:
    """Set what results depend on, in this process and those that it starts."""
    for name in DROPPED:
        os.environ.pop(name, None)
    os.environ |= {
        "KERAS_BACKEND": "tensorflow",
        # Keras reads keras.json here, not in the user's home; weights that it downloads lie here too.
        "KERAS_HOME": os.path.join(platformdirs.user_cache_dir("streetrecall", appauthor=False), "keras"),  # noqa: PTH118
        "MPLBACKEND": "Agg",
        "PROJ_NETWORK": "OFF",  # grids from the network would move coordinates
    }
    if platform.machine().lower() in ("x86_64", "amd64"):
        # NumPy's OpenBLAS chooses kernels by the processor, and each rounds in its own way. These run on every
        # processor that the wheels of TensorFlow and ScaNN run on. Set it yourself where they do not work.
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
