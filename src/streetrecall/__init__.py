"""streetrecall: recognise a place of a city across years and seasons, as a DVC pipeline."""

import os
import platform

__version__ = "0.1.0"

if platform.machine().lower() in ("x86_64", "amd64"):
    # Before NumPy is imported: its OpenBLAS takes kernels by the processor, and each rounds otherwise. These run on
    # every processor that TensorFlow's and ScaNN's wheels run on.
    os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
