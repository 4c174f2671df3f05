"""A user's global settings change no result: each line of the table is a machine, compared with an empty home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name("probe.py")
KERAS = {"floatx": "float32", "epsilon": 1e-7, "backend": "tensorflow", "image_data_format": "channels_last"}

# name -> the part of `probe.py` that may suffer, files below the home folder, environment
MACHINES: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "keras.json with float16": ("network", {".keras/keras.json": json.dumps(KERAS | {"floatx": "float16"})}, {}),
    "keras.json with another epsilon": ("network", {".keras/keras.json": json.dumps(KERAS | {"epsilon": 1e-2})}, {}),
    "keras.json with channels first": (
        "network",
        {".keras/keras.json": json.dumps(KERAS | {"image_data_format": "channels_first"})},
        {},
    ),
    "keras.json that Keras refuses": ("network", {".keras/keras.json": json.dumps(KERAS | {"floatx": "int8"})}, {}),
    "keras.json of another backend": ("network", {".keras/keras.json": json.dumps(KERAS | {"backend": "torch"})}, {}),
    "KERAS_BACKEND": ("network", {}, {"KERAS_BACKEND": "torch"}),
    "KERAS_HOME": (
        "network",
        {"own/keras.json": json.dumps(KERAS | {"floatx": "float16"})},
        {"KERAS_HOME": "{home}/own"},
    ),
    "TF_USE_LEGACY_KERAS": ("network", {}, {"TF_USE_LEGACY_KERAS": "1"}),
    "oneDNN off": ("network", {}, {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    "other kernels of oneDNN": ("network", {}, {"ONEDNN_MAX_CPU_ISA": "SSE41", "DNNL_MAX_CPU_ISA": "SSE41"}),
    "letters drawn in another way": (
        "figure",
        {},
        {"FREETYPE_PROPERTIES": "truetype:interpreter-version=35 cff:no-stem-darkening=0"},
    ),
    "PROJ with a further database": ("position", {}, {"PROJ_AUX_DB": "/nowhere"}),
    "XLA": ("network", {}, {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"}),
    "matplotlibrc in the home folder": (
        "figure",
        {".config/matplotlib/matplotlibrc": "text.usetex: True\nfont.size: 20\nsavefig.dpi: 300\nfont.family: serif\n"},
        {},
    ),
    "matplotlibrc named": ("figure", {"rc": "axes.titlesize: 30\nfigure.dpi: 200\n"}, {"MATPLOTLIBRC": "{home}/rc"}),
    "matplotlibrc in the current folder": (
        "figure",
        {"work/matplotlibrc": "savefig.bbox: tight\nlines.linewidth: 9\n"},
        {},
    ),
    "MPLBACKEND": ("figure", {}, {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
    "PROJ of another program": (
        "position",
        {"proj/proj.db": "not a database"},
        {"PROJ_DATA": "{home}/proj", "PROJ_LIB": "{home}"},
    ),
}


def probe(tmp_path: Path, part: str, files: dict[str, str], settings: dict[str, str]) -> object:
    home = tmp_path / "home"
    work = home / "work"
    work.mkdir(parents=True)
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "OPENBLAS_CORETYPE") if name in os.environ}
    given = {name: value.format(home=home) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, str(PROBE), part, str(tmp_path)], cwd=work, capture_output=True, text=True, timeout=120,
        check=False, env=kept | {"HOME": str(home)} | given,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    parts = sorted({part for part, _, _ in MACHINES.values()})
    return {part: probe(tmp_path_factory.mktemp(part), part, {}, {}) for part in parts}


@pytest.mark.parametrize("machine", MACHINES)
def test_settings_change_no_result(machine: str, expected: dict[str, object], tmp_path: Path) -> None:
    part, files, settings = MACHINES[machine]
    assert probe(tmp_path, part, files, settings) == expected[part]
