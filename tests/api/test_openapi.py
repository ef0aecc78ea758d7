"""The API's description: whole, true to the code, and the file that is checked in."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2
import jsonschema_rs
import msgspec
import pytest

from app.api.openapi import openapi_document, render
from app.api.openapi_operations import OPERATIONS
from app.api.problems import PROBLEMS
from app.domain.limits import Limits
from app.main import create_app
from tests.services import new_settings

FILE = Path(__file__).parents[2] / "openapi" / "openapi.json"
CONTRACT = {
    "POST /v1/jobs": "enqueue",
    "POST /v1/jobs/bulk": "enqueue_many",
    "GET /v1/jobs/{id}": "get_job",
    "PATCH /v1/jobs/{id}": "update_job",
    "POST /v1/jobs/{id}/complete": "mark_job_complete",
    "POST /v1/jobs/{id}/retry": "mark_job_retryable",
    "POST /v1/jobs/{id}/discard": "mark_job_discarded",
    "POST /v1/jobs/{id}/cancel": "mark_job_cancelled",
    "POST /v1/jobs/{id}/snooze": "mark_job_snoozed",
    "POST /v1/jobs/{id}/release": "release_job",
    "POST /v1/jobs/{id}/heartbeat": "renew_lease",
    "POST /v1/jobs/{id}/rerun": "rerun_job",
    "POST /v1/jobs/prune": "prune_jobs",
    "POST /v1/jobs/query": "query",
    "GET /v1/executors": "list_executors",
    "GET /v1/executors/{executor}/subscribe": "subscribe_ready_jobs",
    "POST /v1/executors/{executor}/claim": "claim_jobs",
}


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return openapi_document(create_app(new_settings(tmp_path)))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_file_that_is_checked_in_is_the_description_of_this_code(tmp_path: Path) -> None:
    assert FILE.read_text() == render(create_app(new_settings(tmp_path))), "run make openapi"


def test_operations_have_the_names_of_the_contract(document: dict[str, Any]) -> None:
    named = {place: operation["operationId"] for place, operation in operations(document)}
    assert CONTRACT.items() <= named.items()
    assert set(named.values()) == OPERATIONS.keys()
    assert len(set(named.values())) == len(named)


def test_examples_of_bodies_fit_their_schemas(document: dict[str, Any]) -> None:
    for place, operation in operations(document):
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            schema = content["schema"] | {"components": document["components"]}
            for name, example in content["examples"].items():
                assert jsonschema_rs.is_valid(schema, example["value"]), (place, name)
            assert not jsonschema_rs.is_valid(schema, {"no such member": 1}), place


def test_links_lead_to_operations_and_name_their_parameters(document: dict[str, Any]) -> None:
    targets = {operation["operationId"]: operation for _, operation in operations(document)}
    found = 0
    for place, operation in operations(document):
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                target = targets[link["operationId"]]
                named = {f"{each['in']}.{each['name']}" for each in target.get("parameters", [])}
                assert link.get("parameters", {}).keys() <= named, place
                found += 1
    assert found


def test_every_operation_is_described_with_examples_and_its_problems(document: dict[str, Any]) -> None:
    for place, operation in operations(document):
        assert operation["summary"], place
        assert operation["description"], place
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"], place
            assert {"400", "413", "415", "422"} <= operation["responses"].keys(), place
        for name in re.findall(r"{(\w+)}", place):
            assert name in [parameter["name"] for parameter in operation["parameters"]], place
        for status, response in operation["responses"].items():
            assert "X-Request-Id" in response["headers"], place
            if int(status) >= 400:
                examples = response["content"]["application/problem+json"]["examples"]
                assert {PROBLEMS[slug].status for slug in examples} == {int(status)}, place


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        node = document
        for part in reference.split("/"):
            node = node[part]
        assert node


def test_examples_of_bodies_are_what_their_operations_take() -> None:
    for operation in OPERATIONS.values():
        if operation.body is not None:
            for example in operation.body.examples.values():
                msgspec.convert(example, operation.body.kind)


async def test_the_service_answers_its_description(api: httpx2.AsyncClient) -> None:
    answer = await api.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["openapi"] == "3.1.0"
    assert answer.text == FILE.read_text()


PAGES = ("/docs", "/redoc", "/asyncapi")


@pytest.mark.parametrize("path", [*PAGES, "/problems/stale-fence"])
async def test_a_page_asks_no_other_host(api: httpx2.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "//" not in answer.text
    links = re.findall(r'(?:src|href|spec-url)="([^"]+)"', answer.text)
    assert len(links) >= 3
    for link in links:
        assert (await api.get(urljoin(path, link))).status_code == 200, link


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_runs_only_scripts_of_this_service(api: httpx2.AsyncClient, path: str) -> None:
    policies = []
    for _ in range(2):
        answer = await api.get(path)
        policy = dict(part.partition(" ")[::2] for part in answer.headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
        assert (policy["script-src"], policy["connect-src"]) == ("'self'", "'self'")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        policies.append(policy["style-src"])
        nonce = re.search(r'nonce="([\w-]{20,})"', answer.text)
        assert policy["style-src"] == ("'self'" if nonce is None else f"'self' 'nonce-{nonce[1]}'")
    assert (policies[0] == policies[1]) == (path == "/docs")


async def test_scripts_are_told_to_ask_no_other_host(api: httpx2.AsyncClient) -> None:
    for path in ("/static/docs.js", "/static/redoc.js"):
        assert "://" not in (await api.get(path)).text
    assert "validatorUrl: null" in (await api.get("/static/docs.js")).text
    assert 'disable-telemetry="true"' in (await api.get("/redoc")).text
    assert "cdn.redoc.ly" not in (await api.get("/static/redoc/redoc.standalone.js")).text


async def test_the_root_leads_to_the_documentation(api: httpx2.AsyncClient) -> None:
    answer = await api.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


async def test_static_files_are_only_those_of_their_folder(api: httpx2.AsyncClient) -> None:
    for path in ("/static/%2e%2e/docs.py", "/static/..%2fdocs.py", "/static//etc/passwd", "/static/swagger-ui"):
        assert (await api.get(path)).status_code == 404, path


def test_limits_in_the_description_are_the_defaults(document: dict[str, Any]) -> None:
    job = document["components"]["schemas"]["EnqueuableJob"]["properties"]
    assert job["tags"]["maxItems"] == Limits().tags
