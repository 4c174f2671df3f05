"""Providers: sources of street-level imagery behind one protocol (`streetrecall.providers.base.Provider`).

To add a provider, write its module, add its section to params.yaml and the schema, add a line to `PROVIDERS`, and say
in data/sources when its answers change: a local one by its name in dvc.yaml, another by a file NAME.json. A provider's
module is imported only when the provider is used.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import cast

from streetrecall import geo
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.base import LocalProvider, Provider

PROVIDERS = {
    "simulated": "streetrecall.providers.simulated:SimulatedProvider",
    "archive": "streetrecall.providers.archive:Archive",
    "folder": "streetrecall.providers.folder.provider:FolderProvider",
    "panoramax": "streetrecall.providers.panoramax:PanoramaxProvider",
    "mapillary": "streetrecall.providers.mapillary:MapillaryProvider",
    "google": "streetrecall.providers.google.provider:GoogleProvider",
}


def provider_class(name: str) -> type[Provider]:
    """The class of the provider called ``name``.

    Raises:
        UserError: there is no such provider.
    """
    if name not in PROVIDERS:
        raise UserError(f"params.yaml: provider: there is no provider '{name}'; there are: {', '.join(PROVIDERS)}")
    found: type[Provider] = pkgutil.resolve_name(PROVIDERS[name])
    return found


def open_provider(params: Params) -> Provider:
    """The provider that ``params.provider`` names; close it after use (`contextlib.closing`).

    Raises:
        UserError: the provider is unknown or cannot work as it is set up.
    """
    return provider_class(params.provider).open(params)


def is_local(name: str) -> bool:
    """Whether the provider called ``name`` reads files of this machine; it is then a `LocalProvider`."""
    return hasattr(provider_class(name), "files")


def open_local(params: Params) -> LocalProvider:
    """`open_provider` for a provider that reads files of this machine.

    Raises:
        UserError: it does not, or it cannot work as it is set up.
    """
    if not is_local(params.provider):
        raise UserError(f"params.yaml: provider: '{params.provider}' reads no files of this machine")
    return cast(LocalProvider, open_provider(params))


def polygon_path(params: Params, cities: Path) -> Path:
    """The file of the city's polygon: ``cities/NAME.geojson`` for ``city.name``, the provider's own for ``auto``.

    A provider without a city of its own takes the default one.

    Raises:
        UserError: there is no such file; the message lists those that there are.
    """
    if params.city.name != "auto":
        return geo.city_polygon(cities, params.city.name)
    return provider_class(params.provider).polygon(params) or geo.city_polygon(cities, geo.DEFAULT_CITY)
