"""The messages of the stream: what the server sends, and the text of what the client sends."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .errors import UnexpectedAnswer
from .events import Hello, Revoke
from .job import ExecutionError, Job, JobStatus
from .json_text import encode

_FRAME_BYTES = 512 * 1024


class HelloMessage(Hello, frozen=True, kw_only=True, tag_field="type", tag="hello"):
    """The first message of every connection."""


class JobMessage(Struct, frozen=True, tag_field="type", tag="job"):
    """A job to execute."""

    job: Job


class RevokeMessage(Revoke, frozen=True, tag_field="type", tag="revoke"):
    """A job that is no longer this session's."""


class ResultMessage(Struct, frozen=True, tag_field="type", tag="result"):
    """What became of a message that had a ``ref``, or that failed."""

    ok: bool
    ref: str | None = None
    id: int | None = None
    status: JobStatus | None = None
    duplicate: bool = False
    problem: dict[str, Any] | None = None


class DrainMessage(Struct, frozen=True, tag_field="type", tag="drain"):
    """The server leaves."""


ServerMessage: TypeAlias = HelloMessage | JobMessage | RevokeMessage | ResultMessage | DrainMessage


class _Acknowledgement(Struct, kw_only=True):
    type: str
    id: int
    fence: int
    ref: str
    next_scheduled_at: datetime | UnsetType = UNSET
    delay: timedelta | UnsetType = UNSET
    error: ExecutionError | UnsetType = UNSET


class _Kind(Struct):
    type: str


_decode = msgspec.json.Decoder(ServerMessage | list[ServerMessage]).decode
_decode_one = msgspec.json.Decoder(ServerMessage).decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_kind = msgspec.json.Decoder(_Kind).decode
_KNOWN = frozenset({"hello", "job", "revoke", "result", "drain"})


def decode_frame(frame: bytes) -> Sequence[ServerMessage]:
    """Return a frame's messages in order, without those of a later protocol. Raises UnexpectedAnswer."""
    try:
        decoded = _decode(frame)
    except msgspec.ValidationError:
        return [*_known_messages(frame)]
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(f"the server sent a frame that is no JSON: {error}") from error
    return decoded if isinstance(decoded, list) else [decoded]


def complete_text(job_id: int, fence: int, ref: str) -> bytes:
    """Return the message that completes a job; nearly all messages are of this kind."""
    return b'{"type":"complete","id":%d,"fence":%d,"ref":"%b"}' % (job_id, fence, ref.encode())


def acknowledgement_text(
    kind: str,
    job_id: int,
    fence: int,
    ref: str,
    *,
    run_at: datetime | timedelta | None = None,
    error: ExecutionError | None = None,
) -> bytes:
    """Return a message that acknowledges a job. Raises NotJson."""
    message = _Acknowledgement(type=kind, id=job_id, fence=fence, ref=ref)
    if isinstance(run_at, timedelta):
        message.delay = run_at
    elif run_at is not None:
        message.next_scheduled_at = run_at
    if error is not None:
        message.error = error
    return encode(message)


def request_text(credits: int) -> bytes:
    """Return the message that asks for more jobs."""
    return b'{"type":"request","n":%d}' % credits


def stop_text(ref: str) -> bytes:
    """Return the message that takes all credits back."""
    return b'{"type":"stop","ref":"%b"}' % ref.encode()


HEARTBEAT = b'{"type":"heartbeat"}'


def frames_of(messages: Sequence[bytes]) -> Iterator[bytes]:
    """Yield frames with the messages in order, of half a MiB unless one alone is longer."""
    if sum(map(len, messages)) <= _FRAME_BYTES:
        yield b"[%b]" % b",".join(messages)
        return
    part: list[bytes] = []
    size = 0
    for message in messages:
        if part and size + len(message) > _FRAME_BYTES:
            yield b"[%b]" % b",".join(part)
            part, size = [], 0
        part.append(message)
        size += len(message)
    yield b"[%b]" % b",".join(part)


def _known_messages(frame: bytes) -> Iterator[ServerMessage]:
    try:
        parts = _decode_parts(frame) if frame.lstrip()[:1] == b"[" else [msgspec.Raw(frame)]
        for part in parts:
            if _kind(part).type in _KNOWN:
                yield _decode_one(part)
    except msgspec.MsgspecError as error:
        raise UnexpectedAnswer(f"the server sent a message that cannot be read: {error}") from error
