"""One Great Expectations suite for each table that passes between stages; `streetrecall.stages.check` runs them.

Great Expectations takes seconds to import, so only this package and `stages/check.py` do. Its usage statistics are
switched off before its first import: nothing here talks to a network.
"""

import logging
import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"
logging.getLogger("great_expectations").setLevel(logging.ERROR)  # it logs some hundred lines at import
