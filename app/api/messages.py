"""WebSocket messages, pure: frames to messages, messages to frames."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..domain.job import Ack, Job
from ..domain.lifecycle import Acknowledgement, Operation
from ..domain.limits import MAX_FRAME_BYTES, MAX_FRAME_MESSAGES, MAX_INT64, MAX_JSON_DEPTH, MIN_INT64, Limits
from ..domain.stream import Hello, Revoke
from ..version import __version__
from .job_json import encode_job_for_worker
from .json_body import converted
from .json_grammar import is_json_text, without_excess
from .mark_body import CancelBody, CompleteBody, DiscardBody, RetryBody, SnoozeBody
from .protocol import FEATURES, PROTOCOL, limits_document
from .request_errors import MalformedJson, RequestError, invalid
from .wire_types import Fence, Int64, read_next_run_at

MAX_REF_CHARACTERS = 128

T = TypeVar("T")

Ref = Annotated[str, Meta(max_length=MAX_REF_CHARACTERS, description="Given back in the result.")]


class RequestMessage(Struct, forbid_unknown_fields=True, tag="request", tag_field="type"):
    """Adds credits; 10,000 are open at most, more are cut."""

    n: Annotated[int, Meta(ge=0)]


class StopMessage(Struct, forbid_unknown_fields=True, tag="stop", tag_field="type"):
    """Takes all open credits and their return."""

    ref: Ref | UnsetType = UNSET


class HeartbeatMessage(Struct, forbid_unknown_fields=True, tag="heartbeat", tag_field="type"):
    """Renews the lease of all jobs held here."""


class CompleteMessage(CompleteBody, forbid_unknown_fields=True, kw_only=True, tag="complete", tag_field="type"):
    """The job is done."""

    id: Int64
    ref: Ref | UnsetType = UNSET


class RetryMessage(RetryBody, forbid_unknown_fields=True, kw_only=True, tag="retry", tag_field="type"):
    """The job failed and is to run again."""

    id: Int64
    ref: Ref | UnsetType = UNSET


class DiscardMessage(DiscardBody, forbid_unknown_fields=True, kw_only=True, tag="discard", tag_field="type"):
    """The job failed for good."""

    id: Int64
    ref: Ref | UnsetType = UNSET


class CancelMessage(CancelBody, forbid_unknown_fields=True, kw_only=True, tag="cancel", tag_field="type"):
    """The job is not wanted any more."""

    id: Int64
    ref: Ref | UnsetType = UNSET


class SnoozeMessage(SnoozeBody, forbid_unknown_fields=True, kw_only=True, tag="snooze", tag_field="type"):
    """The job is to run later; the attempt does not count."""

    id: Int64
    ref: Ref | UnsetType = UNSET


class ReleaseMessage(Struct, forbid_unknown_fields=True, kw_only=True, tag="release", tag_field="type"):
    """The job was not started."""

    id: Int64
    fence: Fence | UnsetType = UNSET
    ref: Ref | UnsetType = UNSET


AckMessage: TypeAlias = CompleteMessage | RetryMessage | DiscardMessage | CancelMessage | SnoozeMessage | ReleaseMessage
ClientMessage: TypeAlias = RequestMessage | StopMessage | HeartbeatMessage | AckMessage

CLIENT_MESSAGES: dict[str, type[ClientMessage]] = {
    "request": RequestMessage,
    "stop": StopMessage,
    "heartbeat": HeartbeatMessage,
    "complete": CompleteMessage,
    "retry": RetryMessage,
    "discard": DiscardMessage,
    "cancel": CancelMessage,
    "snooze": SnoozeMessage,
    "release": ReleaseMessage,
}

_frame: msgspec.json.Decoder[Any] = msgspec.json.Decoder(ClientMessage | list[ClientMessage])
_OBJECTS_BEGIN = re.compile(r"[ \t\n\r]*+(?:\[[ \t\n\r]*+)?\{")
_untyped = msgspec.json.Decoder(float_hook=float)
_encoder = msgspec.json.Encoder()


class Refused(Struct, frozen=True):
    """A message that cannot be acted on, with what its failed result refers to."""

    error: Exception
    ref: str | None
    id: int | None


class FrameTooLong(Exception):
    """A frame holds more messages than one may."""


def decode_frame(text: str) -> Iterable[ClientMessage | Refused]:
    """Return the messages of a frame in order, those with an unknown type or a wrong field refused.

    Raises MalformedJson for what is no JSON text, neither object nor array of objects, or FrameTooLong.
    """
    try:
        message = _frame.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        objects = _objects(text)
        # One by one as they are asked for: to say what is wrong takes its time.
        return map(_convert, _bounded(objects))
    return _bounded(message) if isinstance(message, list) else [message]


def to_acknowledgement(message: AckMessage) -> Acknowledgement:
    """Return what an acknowledging message asks for; its fence is there. Raises ValidationFailed."""
    fence = message.fence if isinstance(message.fence, int) else None
    match message:
        case CompleteMessage():
            return Acknowledgement(operation=Operation.COMPLETE, job_id=message.id, fence=fence)
        case RetryMessage():
            run_at = read_next_run_at(message.next_scheduled_at, message.delay)
            error = message.error.to_error()
            return Acknowledgement(
                operation=Operation.RETRY, job_id=message.id, fence=fence, run_at=run_at, error=error
            )
        case SnoozeMessage():
            run_at = read_next_run_at(message.next_scheduled_at, message.delay)
            return Acknowledgement(operation=Operation.SNOOZE, job_id=message.id, fence=fence, run_at=run_at)
        case DiscardMessage():
            error = message.error.to_error()
            return Acknowledgement(operation=Operation.DISCARD, job_id=message.id, fence=fence, error=error)
        case CancelMessage():
            error = message.error.to_error()
            return Acknowledgement(operation=Operation.CANCEL, job_id=message.id, fence=fence, error=error)
        case ReleaseMessage():
            return Acknowledgement(operation=Operation.RELEASE, job_id=message.id, fence=fence)


def encode_hello(hello: Hello, limits: Limits, *, heartbeat_seconds: float) -> bytes:
    """Return the first message of a stream."""
    return _encoder.encode(
        {
            "type": "hello",
            "protocol": PROTOCOL,
            "version": __version__,
            "features": FEATURES,
            "limits": limits_document(limits),
            "session": hello.session,
            "resume": hello.resume,
            "resumed": hello.resumed,
            "held": [{"id": job_id, "fence": fence} for job_id, fence in hello.held],
            "credits": hello.credits,
            "heartbeat_interval": heartbeat_seconds,
            "lease": hello.lease_seconds,
        }
    )


def encode_job_message(job: Job) -> bytes:
    """Return a job on its way to its worker."""
    return b'{"type":"job","job":' + encode_job_for_worker(job) + b"}"


def encode_revoke(revoke: Revoke) -> bytes:
    """Return the word that a job is no longer its worker's."""
    return b'{"type":"revoke","id":%d,"fence":%d,"reason":"%b"}' % (
        revoke.job_id,
        revoke.fence,
        revoke.reason.value.encode(),
    )


def encode_drain() -> bytes:
    """Return the word that this server is leaving."""
    return b'{"type":"drain"}'


def encode_stopped(ref: str) -> bytes:
    """Return the result of a ``stop`` with a ``ref``; without one it has none."""
    return b'{"type":"result","ref":%b,"ok":true}' % _encoder.encode(ref)


def encode_result(ref: str, ack: Ack) -> bytes:
    """Return the result of an acknowledgement that took effect, or had before."""
    return b'{"type":"result","ref":%b,"id":%d,"ok":true,"status":"%b","duplicate":%b}' % (
        _encoder.encode(ref),
        ack.id,
        ack.status._value_.encode(),
        b"true" if ack.duplicate else b"false",
    )


def encode_failure(ref: str | None, job_id: int | None, problem: dict[str, Any]) -> bytes:
    """Return the result of a message that failed."""
    reference = {} if ref is None else {"ref": ref}
    job = {} if job_id is None else {"id": job_id}
    return _encoder.encode({"type": "result", **reference, **job, "ok": False, "problem": problem})


def frames(messages: Iterable[bytes], *, batch: bool) -> Iterator[tuple[str, int]]:
    """Return text frames for messages, each with how many it holds.

    They are arrays up to 1 MiB if the client takes them, else one frame a message.
    """
    if not batch:
        yield from ((message.decode(), 1) for message in messages)
        return
    waiting: list[bytes] = []
    size = 2
    for message in messages:
        if waiting and size + len(message) + 1 > MAX_FRAME_BYTES:
            yield (b"[" + b",".join(waiting) + b"]").decode(), len(waiting)
            waiting, size = [], 2
        waiting.append(message)
        size += len(message) + 1
    if waiting:
        yield (b"[" + b",".join(waiting) + b"]").decode(), len(waiting)


def _bounded(messages: list[T]) -> list[T]:
    if len(messages) > MAX_FRAME_MESSAGES:
        raise FrameTooLong
    return messages


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of a frame. Raises MalformedJson."""
    try:
        value = _untyped.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        given_up = isinstance(error, RecursionError | msgspec.ValidationError)
        if not (given_up and _OBJECTS_BEGIN.match(text) and is_json_text(text.encode())):
            raise MalformedJson from None
        # No member of a message takes null: it is refused all the same, by the name that its sender gave it.
        value = _untyped.decode(without_excess(text, max_depth=MAX_JSON_DEPTH))
    objects = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) for each in objects):
        raise MalformedJson
    return objects


def _convert(message: dict[str, Any]) -> ClientMessage | Refused:
    kind = message.get("type")
    try:
        if not isinstance(kind, str) or kind not in CLIENT_MESSAGES:
            raise invalid("/type", "must be one of " + ", ".join(CLIENT_MESSAGES))
        fields = {name: value for name, value in message.items() if name != "type"}
        return converted(fields, CLIENT_MESSAGES[kind])
    except RequestError as error:
        ref, job_id = message.get("ref"), message.get("id")
        return Refused(
            error,
            ref if isinstance(ref, str) and len(ref) <= MAX_REF_CHARACTERS else None,
            job_id if type(job_id) is int and MIN_INT64 <= job_id <= MAX_INT64 else None,
        )
