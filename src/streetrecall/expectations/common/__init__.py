"""What all suites use, and the list of them.

A suite is a module of `streetrecall.expectations` with the name of its check. It holds INPUTS (name -> default path),
VALIDATED (the inputs, or files below them such as ``crops/images.parquet``, whose hashes go into the marker) and
``batches``, the tables with their expectations. Where a stage reads only a part of what is checked, MARKERS maps the
name of a further marker to the files of that part.

Great Expectations takes seconds to import, so a suite is imported when its check runs. The usage statistics of the
library are switched off before that: nothing here uses a network.
"""

import importlib
import logging
import os
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"
logging.getLogger("great_expectations").setLevel(logging.ERROR)  # it logs about a hundred lines at import

NAMES = ("grid", "panoramas", "locations", "captures", "crops", "views", "photos", "descriptors", "predictions")


def suite_of(name: str) -> Any:
    """The module that holds the suite of the check ``name``."""
    return importlib.import_module(f"streetrecall.expectations.{name}")
