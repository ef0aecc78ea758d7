"""The stream in AsyncAPI 3.0: one channel, a connection of a worker, and its messages both ways."""

import json
from collections.abc import Sequence
from typing import Any

from ..version import __version__
from .asyncapi_messages import MESSAGES, Described, message_schemas
from .close_codes import CLOSE_CODES
from .openapi import PARAMETERS
from .openapi_operations import OPERATIONS
from .openapi_schemas import Schema
from .problems import PROBLEMS
from .protocol import SUBPROTOCOL

_CHANNEL = "subscribe_ready_jobs"
_ADDRESS = "/v1/executors/{executor}/subscribe"
_DESCRIPTION = f"""\
How workers get jobs: a WebSocket for each executor, subprotocol `{SUBPROTOCOL}`, text frames of JSON. All other
operations are in [openapi.json](openapi.json); `POST /v1/executors/{{executor}}/claim` there is the stream for those
without WebSocket.

A frame is one message or an array of messages. A client may always send arrays; the server does so only if the client
connected with `batch=true`. Clients ignore members and types of messages that they don't know. An unknown type or a
wrong member from a client gets a failed `result`.

**Demand decides.** A job comes only against one of the connection's credits. `request` adds credits; with `prefetch=n`
there are n at the start, and every job that the connection stops holding gives one back. `stop` takes all open credits
and their return until the next `request`.

**Leases.** Jobs are leased to the session that got them. Every frame of the client's renews the lease, a pong too: an
open socket keeps its jobs however long they run.
"""


def render() -> str:
    """Return the document as text, as it stands in ``openapi/asyncapi.json``."""
    return json.dumps(asyncapi_document(), indent=2, ensure_ascii=False) + "\n"


def asyncapi_document() -> dict[str, Any]:
    """Return the description of the stream."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "rexecutor stream",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_CHANNEL: _channel()},
        "operations": {_operation_id(message): _operation(message) for message in MESSAGES},
        "components": {
            "messages": {message.kind: _message(message) for message in MESSAGES},
            "schemas": message_schemas(),
        },
    }


def _channel() -> dict[str, Any]:
    executor = PARAMETERS["executor"]
    return {
        "address": _ADDRESS,
        "title": "A worker's connection",
        "summary": "Streams ready jobs to one worker, and takes what it says of them",
        "description": f"{_query_table()}\n\n{_refusal_table()}\n\n{_close_table()}",
        "parameters": {
            "executor": {
                "description": f"Which kind of worker this is: {executor['schema']['pattern']}",
                "examples": [executor["example"]],
            }
        },
        "messages": {message.kind: {"$ref": f"#/components/messages/{message.kind}"} for message in MESSAGES},
        "bindings": {"ws": _handshake()},
        "x-close-codes": {str(code): meaning for code, meaning in CLOSE_CODES.items()},
        "x-connect-refusals": {slug: PROBLEMS[slug].status for slug in OPERATIONS[_CHANNEL].problems},
    }


def _handshake() -> dict[str, Any]:
    query = {each["name"]: {"description": each["description"], **each["schema"]} for each in _query_parameters()}
    headers = {
        "Sec-WebSocket-Protocol": {
            "type": "string",
            "description": f"`{SUBPROTOCOL}`; a client that offers none is accepted.",
            "examples": [SUBPROTOCOL],
        },
        "Origin": {
            "type": "string",
            "description": "Sent by browsers. Must be this service's own or one that the service is told to allow.",
        },
    }
    return {
        "method": "GET",
        "query": {"type": "object", "properties": query},
        "headers": {"type": "object", "properties": headers},
        "bindingVersion": "0.1.0",
    }


def _query_parameters() -> list[Schema]:
    parameters = [PARAMETERS[name] for name in OPERATIONS[_CHANNEL].parameters]
    return [each for each in parameters if each["in"] == "query"]


def _query_table() -> str:
    rows = [(f"`{each['name']}`", each["description"]) for each in _query_parameters()]
    return _table("Parameters in the query", ("name", "meaning"), rows)


def _refusal_table() -> str:
    kinds = sorted((PROBLEMS[slug].status, slug, PROBLEMS[slug].title) for slug in OPERATIONS[_CHANNEL].problems)
    rows = [(f"{status}", f"[{slug}](problems/{slug})", title) for status, slug, title in kinds]
    return _table("A refusal is an HTTP answer before the upgrade", ("status", "problem", "meaning"), rows)


def _close_table() -> str:
    rows = [(f"{code}", meaning) for code, meaning in CLOSE_CODES.items()]
    return _table("The server closes with", ("code", "when"), rows)


def _table(caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return f"{caption}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _operation_id(message: Described) -> str:
    return f"{'send' if message.by_server else 'receive'}_{message.kind}"


def _operation(message: Described) -> dict[str, Any]:
    document: dict[str, Any] = {
        "action": "send" if message.by_server else "receive",
        "channel": {"$ref": f"#/channels/{_CHANNEL}"},
        "summary": message.summary,
        "messages": [_in_channel(message.kind)],
    }
    if not message.by_server and message.kind not in _UNANSWERED:
        document["reply"] = {"channel": {"$ref": f"#/channels/{_CHANNEL}"}, "messages": [_in_channel("result")]}
    return document


_UNANSWERED = frozenset({"request", "heartbeat"})


def _in_channel(kind: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{_CHANNEL}/messages/{kind}"}


def _message(message: Described) -> dict[str, Any]:
    return {
        "name": message.kind,
        "title": message.kind,
        "summary": message.summary,
        "payload": {"$ref": f"#/components/schemas/{message.schema}"},
        "examples": [{"name": name, "payload": example} for name, example in message.examples.items()],
    }
