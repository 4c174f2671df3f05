"""Provider `simulated` (the default): provider `google`, with the simulator's service in place of the real one.

The service listens on a free loopback port. The default thus runs the same code that a user later runs with the real
service. Only the viewer page differs: the simulator's page knows when its frame is complete, so one picture is enough.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self
from urllib.parse import urlsplit

from streetrecall.params.schema import Params
from streetrecall.providers.google.credentials import Credentials
from streetrecall.providers.google.provider import GoogleProvider
from streetrecall.providers.http import Client, Secret
from streetrecall.providers.proxies import LOOPBACK, Proxies

KEY = "AIzaSimulatedCityNeedsNoKey"  # the service accepts any key of this form


class SimulatedProvider(GoogleProvider):
    """The simulated city. Its service runs until the provider is closed.

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
            params, endpoint=service, viewer=f"{service}/viewer", credentials=Credentials(Secret(KEY)),
            name="simulated", namespace=f"simulated {fingerprint(params)}", shareable=True, licence="CC0-1.0",
            terms_accepted=True,
            client=Client(params.network, proxies, environment=False), isolated=True,
        )  # fmt: skip

    @classmethod
    def open(cls, params: Params) -> Self:
        return cls(params)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._service.close()
