"""Provider `simulated` (the default): the simulator service and provider `google` pointed at it.

The service listens on a free loopback port. So what a user later runs against the real service is what the default
runs every day, but for the viewer page: the city's own knows its frames, so that one picture is proof enough.
"""

from __future__ import annotations

from contextlib import ExitStack
from urllib.parse import urlsplit

from streetrecall.params.schema import Params
from streetrecall.providers.google.provider import GoogleProvider
from streetrecall.providers.http import LOOPBACK, Client, Proxies, Secret

KEY = "AIzaSimulatedCityNeedsNoKey"  # the service takes any key of this form


class SimulatedProvider(GoogleProvider):
    """The simulator city. Its service runs as long as the provider is open.

    Args:
        service: base URL of a service that runs already; None starts one.
    """

    def __init__(self, params: Params, service: str | None = None) -> None:
        from streetrecall.simulator import fingerprint

        self._service = ExitStack()
        if service is None:
            from streetrecall.simulator.service.server import running

            service = self._service.enter_context(running(params))
        self.base = service
        proxies = Proxies.from_environment()
        if any(urlsplit(url).hostname not in LOOPBACK for url in proxies.urls):
            proxies = Proxies([])  # a proxy elsewhere cannot reach a service on this machine's loopback
        super().__init__(
            params, endpoint=service, viewer=f"{service}/viewer", key=Secret(KEY), name="simulated",
            namespace=f"simulated {fingerprint(params)}", shareable=True, licence="CC0-1.0", terms_accepted=True,
            client=Client(params.network, proxies, environment=False), isolated=True,
        )  # fmt: skip

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._service.close()
