"""Answers kept for calls that their callers may repeat: what both databases store of them, and for how long."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from ..domain.errors import IdempotencyMismatch
from ..domain.idempotency import Idempotency
from ..domain.job import Ack, EnqueuableJob, Enqueued, EnqueueOutcome

KEPT_MICROSECONDS = 24 * 60 * 60 * 1_000_000
FORGET_BATCH = 500
"""How many expired answers one transaction deletes at most."""

T = TypeVar("T")

_enqueued = msgspec.json.Decoder(list[tuple[int, EnqueueOutcome]])
_ack = msgspec.json.Decoder(Ack)


class InsertOnce(Struct, frozen=True):
    """A repeatable call of ``enqueue`` or ``enqueue_many``."""

    idempotency: Idempotency
    jobs: Sequence[EnqueuableJob]


class RerunOnce(Struct, frozen=True):
    """A repeatable call of ``rerun_job``."""

    idempotency: Idempotency
    job_id: int
    force: bool


class Kept(Struct, frozen=True):
    """The answer to a call, as it is stored."""

    body_hash: str
    answer: str

    def to(
        self, call: Idempotency, decode: Callable[[str], T], *, is_replay: bool
    ) -> "Answered[T] | IdempotencyMismatch":
        """Return what a call with this key is told: the answer, if it asks for what was asked for before."""
        if call.body_hash != self.body_hash:
            return IdempotencyMismatch()
        return Answered(decode(self.answer), is_replay)


class Answered(Struct, Generic[T], frozen=True):
    """The answer to a repeatable call, and whether it was given before."""

    answer: T
    is_replay: bool


def encode_enqueued(results: Sequence[Enqueued]) -> str:
    """Return the text to keep of the results of an enqueue."""
    return msgspec.json.encode([(each.id, each.outcome) for each in results]).decode()


def decode_enqueued(text: str) -> list[Enqueued]:
    """Return the results of an enqueue from their text."""
    return [Enqueued(job_id, outcome) for job_id, outcome in _enqueued.decode(text)]


def encode_ack(ack: Ack) -> str:
    """Return the text to keep of an acknowledgement."""
    return msgspec.json.encode(ack).decode()


def decode_ack(text: str) -> Ack:
    """Return an acknowledgement from its text."""
    return _ack.decode(text)
