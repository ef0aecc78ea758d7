"""The messages of the stream as AsyncAPI shows them: schemas and examples.

Schemas of what clients send are made from the types that decode it. Examples of what the server sends are made by the
encoders that send it, and tests hold real sessions against the schemas.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from ..domain.job import Ack
from ..domain.lifecycle import RevokeReason
from ..domain.limits import MAX_OPEN_CREDITS, Limits
from ..domain.status import JobStatus
from ..domain.stream import Hello, Revoke
from .messages import (
    CLIENT_MESSAGES,
    MAX_REF_CHARACTERS,
    encode_drain,
    encode_failure,
    encode_hello,
    encode_result,
    encode_revoke,
    encode_stopped,
)
from .openapi_operations import JOB_EXAMPLE
from .openapi_schemas import ANSWERS, COUNT, ID, STATUS, STRINGS, Schema, object_schema, ref, schemas_of
from .problems import problem_document
from .request_errors import invalid

_EXAMPLE_REQUEST_ID = "0193a5e0-1c2b-7d3e-8f4a-5b6c7d8e9f00"
_ERROR = {"error_type": "timeout", "message": "no answer within 10 s"}
_REF: Schema = {"type": "string", "maxLength": MAX_REF_CHARACTERS, "description": "As the client's message had it."}
_SECONDS: Schema = {"type": "number", "exclusiveMinimum": 0}


class Described(Struct, frozen=True, kw_only=True):
    """A kind of message: who sends it, what it says, and examples by name."""

    kind: str
    by_server: bool
    summary: str
    examples: dict[str, Any]

    @property
    def schema(self) -> str:
        """The name of its schema."""
        return f"{self.kind.capitalize()}Message"


_SERVER_SCHEMAS: dict[str, Schema] = {
    "HelloMessage": object_schema(
        {
            "type": {"const": "hello"},
            "protocol": {"type": "integer", "description": "The version of this protocol."},
            "version": {"type": "string", "description": "The version of the service."},
            "features": STRINGS | {"description": "What this server can do, by name."},
            "limits": {
                "type": "object",
                "additionalProperties": {"type": "number"},
                "description": "As in `GET /v1`: sizes in bytes, times in seconds.",
            },
            "session": {"type": "string", "description": "Also the worker's name in `attempted_by` if it gave none."},
            "resume": {"type": "string", "description": "The token to come back with, as the parameter `resume`."},
            "resumed": {"type": "boolean", "description": "Whether this is the session that `resume` named."},
            "held": {
                "type": "array",
                "items": ref("HeldJob"),
                "description": "All jobs that the session holds. Stop what is not in it, release what never came.",
            },
            "credits": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_OPEN_CREDITS,
                "description": "How many jobs may come now.",
            },
            "heartbeat_interval": _SECONDS | {"description": "Seconds between signs of life that keep the lease safe."},
            "lease": _SECONDS | {"description": "Seconds that a session and its jobs outlive the last sign of life."},
        },
        "The first message of every connection.",
    ),
    "HeldJob": object_schema({"id": ID, "fence": COUNT}, "A job, and the fence under which it is held."),
    "JobMessage": object_schema(
        {"type": {"const": "job"}, "job": ref("Job")},
        "A job to execute: `executing`, its attempt counted, with the fence that acknowledges it. It took one credit.",
    ),
    "RevokeMessage": object_schema(
        {
            "type": {"const": "revoke"},
            "id": ID,
            "fence": COUNT,
            "reason": {"type": "string", "enum": [reason.value for reason in RevokeReason]},
        },
        "The job with this fence is no longer yours: stop. Never comes before its `job`.",
    ),
    "ResultMessage": {
        "description": "What became of a message with a `ref`, or of one that failed, once the change is durable.",
        "oneOf": [ref("SuccessResult"), ref("FailureResult")],
    },
    "SuccessResult": object_schema(
        {
            "type": {"const": "result"},
            "ref": _REF,
            "id": ID,
            "ok": {"const": True},
            "status": STATUS,
            "duplicate": ANSWERS["Ack"]["properties"]["duplicate"],
        },
        "It is done. The result of a `stop` names no job.",
        optional=("id", "status", "duplicate"),
    ),
    "FailureResult": object_schema(
        {"type": {"const": "result"}, "ref": _REF, "id": ID, "ok": {"const": False}, "problem": ref("Problem")},
        "It is not done, and nothing was changed. After `database-unavailable` the outcome is unknown: repeat it.",
        optional=("ref", "id"),
    ),
    "DrainMessage": object_schema(
        {"type": {"const": "drain"}},
        "This server is leaving: no more jobs come here, acknowledgements are taken until the close. Stay until then "
        "unless you are connected elsewhere, with `resume`.",
    ),
}

_HELLO = Hello(
    session="0193a5e0-0b1c-7a2b-9c3d-4e5f60718293",
    resume="c2Vzc2lvbiBvZiBhIHdvcmtlcg",
    resumed=False,
    held=[],
    credits=10,
    lease_seconds=30.0,
)


def _sent(message: bytes) -> Any:
    return msgspec.json.decode(message)


def _failed(ref: str | None, job_id: int | None) -> Any:
    _, problem = problem_document(invalid("/error", "lacks the member message"), _EXAMPLE_REQUEST_ID)
    return _sent(encode_failure(ref, job_id, problem))


MESSAGES: tuple[Described, ...] = (
    Described(
        kind="hello",
        by_server=True,
        summary="The first message",
        examples={"fresh": _sent(encode_hello(_HELLO, Limits(), heartbeat_seconds=10.0))},
    ),
    Described(
        kind="job", by_server=True, summary="A job to execute", examples={"job": {"type": "job", "job": JOB_EXAMPLE}}
    ),
    Described(
        kind="revoke",
        by_server=True,
        summary="The job is no longer yours",
        examples={"cancelled": _sent(encode_revoke(Revoke(42, 2, RevokeReason.CANCELLED)))},
    ),
    Described(
        kind="result",
        by_server=True,
        summary="What became of a message",
        examples={
            "done": _sent(encode_result("a", Ack(42, JobStatus.COMPLETE))),
            "repeated": _sent(encode_result("a", Ack(42, JobStatus.COMPLETE, duplicate=True))),
            "stopped": _sent(encode_stopped("b")),
            "failed": _failed("c", 42),
        },
    ),
    Described(
        kind="drain", by_server=True, summary="This server is leaving", examples={"drain": _sent(encode_drain())}
    ),
    Described(kind="request", by_server=False, summary="Ask for jobs", examples={"ten": {"type": "request", "n": 10}}),
    Described(
        kind="stop",
        by_server=False,
        summary="Ask for no more jobs",
        examples={"plain": {"type": "stop"}, "with a result": {"type": "stop", "ref": "b"}},
    ),
    Described(
        kind="complete",
        by_server=False,
        summary="The job is done",
        examples={"done": {"type": "complete", "id": 42, "fence": 2, "ref": "a"}},
    ),
    Described(
        kind="retry",
        by_server=False,
        summary="The job failed and is to run again",
        examples={
            "after a delay": {"type": "retry", "id": 42, "fence": 2, "error": _ERROR, "delay": "PT30S"},
            "at a time": {
                "type": "retry",
                "id": 42,
                "fence": 2,
                "error": _ERROR,
                "next_scheduled_at": "2030-01-01T08:05:00Z",
                "ref": "a",
            },
        },
    ),
    Described(
        kind="discard",
        by_server=False,
        summary="The job failed for good",
        examples={"discard": {"type": "discard", "id": 42, "fence": 2, "error": _ERROR, "ref": "a"}},
    ),
    Described(
        kind="cancel",
        by_server=False,
        summary="The job is not wanted any more",
        examples={"cancel": {"type": "cancel", "id": 42, "fence": 2, "error": _ERROR, "ref": "a"}},
    ),
    Described(
        kind="snooze",
        by_server=False,
        summary="The job is to run later",
        examples={"a minute": {"type": "snooze", "id": 42, "fence": 2, "delay": 60, "ref": "a"}},
    ),
    Described(
        kind="release",
        by_server=False,
        summary="The job was not started",
        examples={"release": {"type": "release", "id": 42, "fence": 2, "ref": "a"}},
    ),
    Described(
        kind="heartbeat", by_server=False, summary="The client lives", examples={"heartbeat": {"type": "heartbeat"}}
    ),
)


def message_schemas() -> dict[str, Schema]:
    """Return the schemas of all messages and of what they hold, by name."""
    components = ANSWERS | schemas_of(CLIENT_MESSAGES.values()) | _SERVER_SCHEMAS
    for name, schema in components.items():
        # A message without its fence decodes, so that its result can say fence-required: it never succeeds.
        if name.endswith("Message") and "fence" in schema.get("properties", {}):
            components[name] = schema | {"required": sorted({*schema["required"], "fence"})}
    wanted: set[str] = set()
    waiting = [message.schema for message in MESSAGES]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(_references(components[name]))
    return {name: components[name] for name in sorted(wanted)}


def _references(node: Any) -> Iterator[str]:
    """Find the names of all components that a schema leads to."""
    match node:
        case {"$ref": str(reference)}:
            yield reference.rpartition("/")[2]
        case dict():
            for value in node.values():
                yield from _references(value)
        case list():
            for item in node:
                yield from _references(item)
