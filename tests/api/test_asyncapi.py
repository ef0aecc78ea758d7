"""The stream's description: whole, valid, true to the code both ways, and the file that is checked in."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from msgspec import UNSET

from app.api import close_codes, stream
from app.api.asyncapi import asyncapi_document, render
from app.api.asyncapi_messages import MESSAGES
from app.api.close_codes import CLOSE_CODES
from app.api.messages import CLIENT_MESSAGES, Refused, decode_frame
from app.api.openapi_operations import OPERATIONS
from app.commands.openapi import check_files, write_files
from tests.api.stream_schemas import faults_of

ROOT = Path(__file__).parents[2]
FILE = ROOT / "openapi" / "asyncapi.json"
SPECIFICATION = json.loads((ROOT / "tests" / "vendor" / "asyncapi" / "3.0.0.json").read_text())
BY_SERVER = {"hello", "job", "revoke", "result", "drain"}
EXAMPLES = [(message.kind, name) for message in MESSAGES for name in message.examples]
BY_CLIENT = [message for message in MESSAGES if not message.by_server]


def example(kind: str, name: str) -> Any:
    (found,) = [message.examples[name] for message in MESSAGES if message.kind == kind]
    return deepcopy(found)


def test_the_file_that_is_checked_in_is_the_description_of_this_code():
    assert FILE.read_text() == render(), "run make openapi"


async def test_the_service_answers_its_description(api: httpx2.AsyncClient):
    answer = await api.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == FILE.read_text()


def test_document_is_asyncapi_3():
    jsonschema_rs.validate(SPECIFICATION, asyncapi_document())


@pytest.mark.parametrize(
    "path",
    [
        ["info", "title"],
        ["channels", "subscribe_ready_jobs", "address"],
        ["operations", "send_job", "action"],
        ["components", "messages", "job", "examples"],
    ],
    ids=str,
)
def test_specification_refuses_a_wrong_document(path: list[str]):
    document = asyncapi_document()
    node = document
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = 7
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(SPECIFICATION, document)


def test_references_lead_somewhere():
    document = asyncapi_document()
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        node = document
        for part in reference.split("/"):
            node = node[part]
        assert node


def test_every_message_is_described_with_examples():
    document = asyncapi_document()
    assert {message.kind for message in MESSAGES if message.by_server} == BY_SERVER
    assert {message.kind for message in BY_CLIENT} == CLIENT_MESSAGES.keys()
    channel = document["channels"]["subscribe_ready_jobs"]
    assert channel["messages"].keys() == document["components"]["messages"].keys()
    assert {each["action"] for each in document["operations"].values()} == {"send", "receive"}
    for message in document["components"]["messages"].values():
        assert message["summary"]
        assert message["examples"]
        assert document["components"]["schemas"][message["payload"]["$ref"].rpartition("/")[2]]["description"]


@pytest.mark.parametrize(("kind", "name"), EXAMPLES)
def test_example_is_what_its_schema_says(kind: str, name: str):
    assert faults_of(example(kind, name)) == []


@pytest.mark.parametrize("message", BY_CLIENT, ids=lambda message: message.kind)
def test_service_takes_the_examples_of_what_clients_send(message: Any):
    taken = decode_frame(json.dumps(list(message.examples.values())))
    assert [type(each) for each in taken] == [CLIENT_MESSAGES[message.kind]] * len(message.examples)


def distorted(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message with a member missing, of another type, or too many."""
    yield message | {"surprise": 1}
    for name, value in message.items():
        yield {other: kept for other, kept in message.items() if other != name}
        for wrong in (None, True, 1.5, [], "x" * 200, -(2**70)):
            # What a time or a duration may be is the session's to read; the type only knows that it is a string.
            if not (name in {"next_scheduled_at", "delay"} and isinstance(wrong, str | float | int)):
                yield message | {name: wrong}
        if isinstance(value, dict):
            yield from (message | {name: inner} for inner in distorted(value))


@pytest.mark.parametrize("message", BY_CLIENT, ids=lambda message: message.kind)
def test_schema_and_service_refuse_the_same(message: Any):
    """A missing fence is the one thing that the decoder leaves to the session, whose result names it."""
    refused = 0
    for given in message.examples.values():
        for wrong in distorted(given):
            (taken,) = decode_frame(json.dumps(wrong))
            is_refused = isinstance(taken, Refused) or getattr(taken, "fence", None) is UNSET
            assert bool(faults_of(wrong, kind=message.kind)) == is_refused, wrong
            refused += is_refused
    assert refused


def test_close_codes_are_those_of_the_contract():
    contract = (ROOT / "docs" / "contract.md").read_text()
    sentence = re.search(r"Close\s+codes:(.*?)\n\n", contract, re.DOTALL)
    assert sentence is not None
    assert CLOSE_CODES.keys() == {int(code) for code in re.findall(r"\b(1\d{3}|4\d{3})\b", sentence[1])}
    named = {value for name, value in vars(close_codes).items() if name.isupper() and isinstance(value, int)}
    assert named == CLOSE_CODES.keys()
    channel = asyncapi_document()["channels"]["subscribe_ready_jobs"]
    assert channel["x-close-codes"].keys() == {str(code) for code in CLOSE_CODES}
    assert all(f"| {code} |" in channel["description"] for code in CLOSE_CODES)


def test_handshake_has_the_parameters_that_the_service_reads_and_every_refusal():
    channel = asyncapi_document()["channels"]["subscribe_ready_jobs"]
    assert set(channel["bindings"]["ws"]["query"]["properties"]) == set(stream._Wish.__struct_fields__)
    assert set(channel["x-connect-refusals"]) == set(OPERATIONS["subscribe_ready_jobs"].problems)
    assert all(f"problems/{slug}" in channel["description"] for slug in channel["x-connect-refusals"])


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_command_writes_both_documents_and_finds_either_stale(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert write_files(tmp_path) == 0
    assert check_files(tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"openapi.json", "asyncapi.json"}
    file = tmp_path / name
    file.write_text(file.read_text().replace("0.1.0", "0.0.9", 1))
    assert check_files(tmp_path) == 1
    assert str(file) in capsys.readouterr().err
    file.unlink()
    assert check_files(tmp_path) == 1
