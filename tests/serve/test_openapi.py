"""The service keeps to its OpenAPI document, whatever is asked."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from servedcity import Served

OPERATIONS = [
    "GET /healthz", "POST /api/session", "GET /api/about", "GET /api/city", "GET /api/tiles/{zoom}/{column}/{row}",
    "GET /api/pictures/{name}", "GET /api/places", "GET /api/places/{place}", "GET /api/queries",
    "GET /api/queries/{number}", "GET /api/quarantine", "GET /api/revisions", "GET /api/compare", "POST /api/locate",
]  # fmt: skip
# Bytes that are no photo, and names of what does not exist, are well formed by the document and refused all the same.
LEFT_OUT = [positive_data_acceptance]


@pytest.fixture(scope="module")
def document(served: Served):
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


def test_every_operation_is_tried(document):
    found = [operation.ok() for operation in document.get_all_operations()]
    assert sorted(f"{o.method.upper()} {o.path}" for o in found) == sorted(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_it_keeps_to_its_document(name, document):
    method, path = name.split()
    seen = []

    @settings(
        max_examples=8, deadline=None, phases=[Phase.generate], derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=document[path][method].as_strategy())
    def keeps(case):
        seen.append(case.call_and_validate(excluded_checks=LEFT_OUT).status_code)

    keeps()
    assert seen
    assert max(seen) < 500


def test_the_document_is_served_without_other_hosts(served):
    assert httpx.get(f"{served.url}/openapi.json").json()["openapi"].startswith("3.")
    assert httpx.get(f"{served.url}/docs").status_code == 404
