"""What a history says of each job, call, connection and session: lines put together, nothing judged."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from msgspec import Struct

from tests.history.lines import (
    Alive,
    Answered,
    AnyLine,
    Called,
    Connected,
    Delivered,
    Outcome,
    Requested,
    Revoked,
    Seen,
    Stopped,
    Stored,
)

FENCED = frozenset({"complete", "retry", "discard", "cancel", "snooze", "release"})
CHANGING = FENCED | {"rerun", "update"}


class Call(Struct, frozen=True):
    """A question with its answer; what has none is unknown."""

    asked: Called
    answer: Answered | None

    @property
    def outcome(self) -> Outcome:
        return Outcome.UNKNOWN if self.answer is None else self.answer.outcome

    @property
    def took_effect(self) -> bool:
        return self.outcome is Outcome.ACCEPTED

    @property
    def may_have_taken_effect(self) -> bool:
        return self.outcome in {Outcome.ACCEPTED, Outcome.UNKNOWN}

    @property
    def may_have_ended_at(self) -> float:
        """When its effect was there at the latest: never known where there was no answer."""
        return float("inf") if self.answer is None or self.outcome is Outcome.UNKNOWN else self.answer.at


ConnectionLine = Connected | Requested | Stopped | Delivered | Revoked


class Facts:
    """The lines of a history by what they are about."""

    def __init__(self, lines: Iterable[AnyLine]) -> None:
        """Sort lines; those of one connection keep their order."""
        self.stored: list[Stored] = []
        self.seen: dict[int, list[Seen]] = defaultdict(list)
        self.deliveries: dict[int, list[Delivered]] = defaultdict(list)
        self.connections: dict[str, list[ConnectionLine]] = defaultdict(list)
        self.opened: dict[str, Connected] = {}
        self.alive: dict[str, list[Alive]] = defaultdict(list)
        asked: dict[str, Called] = {}
        answers: dict[str, Answered] = {}
        for line in lines:
            match line:
                case Called():
                    asked[line.call] = line
                case Answered():
                    answers[line.call] = line
                case Stored():
                    self.stored.append(line)
                case Seen():
                    self.seen[line.job_id].append(line)
                case Alive():
                    self.alive[line.connection].append(line)
                case Connected() | Requested() | Stopped() | Delivered() | Revoked():
                    self._add_to_connection(line)
        for deliveries in self.deliveries.values():
            deliveries.sort(key=lambda delivery: delivery.fence)
        self.calls = [Call(each, answers.get(name)) for name, each in asked.items()]
        self.calls_on: dict[int, list[Call]] = defaultdict(list)
        self.enqueued: dict[int, Call] = {}
        for call in self.calls:
            if call.asked.job_id is not None:
                self.calls_on[call.asked.job_id].append(call)
            if call.took_effect and call.answer is not None:
                self.enqueued.update((job_id, call) for job_id in call.answer.job_ids)
        self.sessions: dict[str, list[Connected]] = defaultdict(list)
        for connection in sorted(self.opened.values(), key=lambda each: each.asked_at):
            self.sessions[connection.session].append(connection)
        self.successors = {
            before.connection: after
            for connections in self.sessions.values()
            for before, after in pairwise(connections)
        }

    def _add_to_connection(self, line: ConnectionLine) -> None:
        self.connections[line.connection].append(line)
        if isinstance(line, Connected):
            self.opened[line.connection] = line
        elif isinstance(line, Delivered):
            self.deliveries[line.job_id].append(line)

    def may_end(self, job_id: int, fence: int) -> Iterator[Call]:
        """Give the calls that may have taken a job from who held it under a fence."""
        claimed_at = next((each.attempted_at for each in self.deliveries[job_id] if each.fence == fence), 0)
        for call in self.calls_on[job_id]:
            if call.asked.operation not in CHANGING - {"update"} or not call.may_have_taken_effect:
                continue
            if call.asked.fence in {None, fence} and call.may_have_ended_at >= claimed_at:
                yield call

    def may_have_ended_before(self, job_id: int, fence: int, at: int) -> bool:
        return any(call.asked.at <= at for call in self.may_end(job_id, fence))

    def had_ended_before(self, job_id: int, fence: int, at: int) -> bool:
        return any(call.may_have_ended_at <= at for call in self.may_end(job_id, fence))

    def was_delivered(self, job_id: int, fence: int) -> bool:
        return any(each.fence == fence for each in self.deliveries[job_id])

    def held_until(self, delivery: Delivered, before: int) -> int:
        """Return how long, at the least, a job was leased, by what its holder knew before a time."""
        opened = self.opened[delivery.connection]
        until = max(delivery.lease_expires_at, opened.asked_at + opened.lease)
        for connection in self._holders(delivery):
            if connection is not opened and connection.at < before:
                until = max(until, connection.asked_at + connection.lease)
            replaced = self.successors.get(connection.connection)
            heard = [
                alive.sent_at
                for alive in self.alive[connection.connection]
                if alive.at < before and (replaced is None or alive.at < replaced.asked_at)
            ]
            if heard:
                until = max(until, max(heard) + connection.lease)
        for call in self.calls_on[delivery.job_id]:
            answer = call.answer
            if call.asked.operation == "heartbeat" and call.asked.fence == delivery.fence and answer is not None:
                until = max(until, (answer.lease_expires_at or 0) if answer.at < before else 0)
        return until

    def _holders(self, delivery: Delivered) -> Iterator[Connected]:
        """Give the connection that got the job and those that resumed it with the job."""
        current: Connected | None = self.opened[delivery.connection]
        while current is not None:
            yield current
            current = self.successors.get(current.connection)
            if current is not None and (delivery.job_id, delivery.fence) not in current.held:
                return
