"""The one exception that means "your input, not our code": the command line prints it without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right: says what was wrong, where, and what to do."""
