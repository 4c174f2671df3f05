"""Mapillary's own Python client against the stand-in that the provider is tested with: both speak the same contract.

`make test-mapillary` installs the client and runs this. The client has the service's address in its code, so its
requests are sent to the stand-in on their way; the client itself is as it is published.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tinyopen import TOKEN, Taken, TinyOpen
from tinyservice import serving

pytestmark = [pytest.mark.mapillary]

CLIENT = Path(__file__).parents[2] / ".mapillary/bin/python"
TAKEN = [
    Taken("1001", 59.3250, 18.0700, 2023, 90.0, False, "seq2023"),
    Taken("1002", 59.3251, 18.0700, 2019, 0.0, True, "seq2019"),
]
ASKING = """
import json, sys
import requests.sessions
base, token, what = sys.argv[1:]

class ToTheStandIn(requests.sessions.HTTPAdapter):
    def send(self, request, **options):
        assert request.url.startswith("https://graph.mapillary.com/"), request.url
        request.url = request.url.replace("https://graph.mapillary.com", base, 1)
        return super().send(request, **options)

requests.sessions.HTTPAdapter = ToTheStandIn
import mapillary.interface as client
import logging
logging.disable(logging.CRITICAL)
try:
    client.set_access_token(token)
    if what == "image":
        found = client.image_from_key("1001", ["computed_geometry", "computed_compass_angle", "sequence", "creator"])
        answer = json.loads(found) if isinstance(found, str) else found
    else:
        answer = client.image_thumbnail(what, 2048)
except Exception as error:
    answer = {"error": type(error).__name__, "text": str(error)}
print("ANSWER", json.dumps(answer))
"""


def ask(service: TinyOpen, what: str, token: str = TOKEN) -> Any:
    """What the client answers: the image 1001, or the address of the picture of an id."""
    if not CLIENT.exists():
        pytest.skip("there is no client of Mapillary: make test-mapillary installs it")
    done = subprocess.run(
        [str(CLIENT), "-c", ASKING, service.base, token, what], capture_output=True, text=True, check=False, cwd="/"
    )
    assert "ANSWER " in done.stdout, done.stderr
    return json.loads(done.stdout.rpartition("ANSWER ")[2])


def test_it_reads_an_image_and_where_its_picture_is() -> None:
    with serving(TinyOpen(TAKEN)) as service:
        assert isinstance(service, TinyOpen)
        found = ask(service, "image")["features"]["properties"]
        assert found["computed_geometry"]["coordinates"] == [18.0700, 59.3250]
        assert found["id"] == "1001" and found["computed_compass_angle"] == 90.0
        assert found["sequence"] == "seq2023" and found["creator"]["username"] == "ann"
        assert "is_pano" not in found, "only what was asked for"
        assert ask(service, "1002") == f"{service.base}/pictures/1002.jpg"


def test_it_understands_what_is_refused() -> None:
    with serving(TinyOpen(TAKEN)) as service:
        assert isinstance(service, TinyOpen)
        assert ask(service, "image", "MLY|wrong")["error"] == "InvalidTokenError"
        assert ask(service, "999")["error"] == "InvalidImageKeyError"
