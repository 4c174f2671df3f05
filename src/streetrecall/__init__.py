"""streetrecall: recognise a place of a city across years and seasons, as a DVC pipeline."""

from streetrecall import environment

__version__ = "0.1.0"

environment.fix()
