"""Sources of street-level imagery, opened by name; a provider's module is imported only when it is asked for."""

from __future__ import annotations

from pathlib import Path

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.base import Provider


def open_provider(params: Params, archive: Path) -> Provider:
    """The provider that ``params.provider`` names; close it after use (`contextlib.closing`).

    ``archive`` is the folder of an existing collection, for the provider of that name.

    Raises:
        UserError: the provider is unknown or cannot work as it is set up.
    """
    if params.provider == "archive":
        from streetrecall.providers.archive import Archive

        return Archive(archive)
    if params.provider == "simulated":
        from streetrecall.providers.simulated import SimulatedProvider

        return SimulatedProvider(params)
    if params.provider == "google":
        from streetrecall.providers.google.provider import GoogleProvider

        return GoogleProvider.real(params)
    raise UserError(f"params.yaml: provider: there is no provider '{params.provider}'")
