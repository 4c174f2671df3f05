"""How the ray caster is compiled."""

from __future__ import annotations

from typing import Any

from numba import njit

# Strict IEEE arithmetic: equal input gives equal bytes. `_nrt` False: the code does not count references to arrays,
# which would double the time of a view. So it may not make arrays: Python makes all of them and keeps them meanwhile.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy", "_nrt": False}

# A function that other compiled functions call. It becomes a part of their machine code, is not cached by itself, and
# cannot be called from Python: without the code for that it compiles in half the time.
kernel = njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)
