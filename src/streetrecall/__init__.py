"""streetrecall: recognise a place of a city across years and seasons, as a DVC pipeline."""

__version__ = "0.1.0"
