"""The sessions of streams: opened with a lease and a token, resumed with the token, renewed while they live."""

import asyncio
from collections.abc import Iterable, Sequence
from hashlib import sha256
from secrets import token_urlsafe

from msgspec import Struct
from uuid_utils import uuid7

from ..domain.job import Job
from ..domain.lifecycle import Settlement
from ..domain.stream import Hello
from ..observability.logging import cause, get_logger
from ..observability.loops import GuardedLoop
from ..store.calls import Audit
from ..store.claim import NewLease, Resume, Resumed
from ..store.dialects.base import Dialect
from ..store.effects import LeaseSplit
from .lines import Lines
from .subscription import Subscription

_AUDITS = 2
"""A statement that was on its way when its connection broke may be executed after the first."""
_LATE_SECONDS = 15.0
_AUDITED_AT_ONCE = 200

_log = get_logger()


class _Wish(Struct):
    """Somebody who waits for the commit of a resume."""

    executor: str
    token: str
    prefetch: int
    subscription: Subscription | None = None


class Sessions:
    """Who has which lease. A session's subscription stands in line from the turn in which its commit is told of."""

    def __init__(self, dialect: Dialect, lines: Lines, *, lease_seconds: float) -> None:
        """Begin with none; each has a lease of ``lease_seconds``."""
        self._dialect = dialect
        self._lines = lines
        self._lease_seconds = lease_seconds
        self._by_lease: dict[int, Subscription] = {}
        self._wishes: dict[str, _Wish] = {}
        """By the hash of the new token."""
        self.auditing = GuardedLoop("session_audit", self._audit)
        self._audits_due = 0
        self._next_audit: asyncio.TimerHandle | None = None
        self._doubted = asyncio.Event()
        self._abandoned: set[str] = set()
        self._left: list[tuple[int, float]] = []
        """Leases whose connection is gone, with its last sign of life, while the database has not heard of it."""

    def subscriptions(self) -> set[Subscription]:
        """Return those that are connected."""
        return set(self._by_lease.values())

    async def open(self, executor: str, worker: str | None, prefetch: int) -> Subscription:
        """Begin a session."""
        session = str(uuid7())
        token = _new_token(session)
        lease = NewLease(
            session=session,
            executor=executor,
            worker=worker or session,
            seconds=self._lease_seconds,
            connected=True,
            resume_hash=_hash(token),
        )
        lease_id = await self._dialect.open_lease(lease)
        hello = Hello(
            session=session, resume=token, resumed=False, held=[], credits=prefetch, lease_seconds=self._lease_seconds
        )
        return self._admit(hello, executor, leases=[lease_id], worker=lease.worker, prefetch=prefetch)

    async def resume(self, executor: str, token: str, worker: str | None, prefetch: int) -> Subscription | None:
        """Go on with a session; None where the token is unknown."""
        session = token.partition(".")[0]
        wish = _Wish(executor, _new_token(session), prefetch)
        resume_hash = _hash(wish.token)
        self._wishes[resume_hash] = wish
        try:
            await self._dialect.resume_session(
                Resume(
                    session=session,
                    executor=executor,
                    worker=worker,
                    seconds=self._lease_seconds,
                    presented_hash=_hash(token),
                    resume_hash=resume_hash,
                )
            )
        except BaseException:
            if wish.subscription is not None:
                self._lines.start(wish.subscription.close())
            raise
        finally:
            del self._wishes[resume_hash]
        return wish.subscription

    def moved(self, moves: Iterable[LeaseSplit | Resumed]) -> None:
        """Hear in the order of their writing which leases took the jobs of others."""
        for move in moves:
            if isinstance(move, Resumed):
                self._resumed(move)
            elif (holder := self._by_lease.get(move.old_lease)) is not None:
                self._by_lease[move.new_lease] = holder
                if move.new_lease not in holder.leases:
                    holder.leases.append(move.new_lease)

    def settled(self, settlements: Iterable[Settlement]) -> set[str]:
        """Tell subscriptions that jobs are no longer held; return the executors with new demand."""
        freed: set[str] = set()
        for settlement in settlements:
            subscription = self._by_lease.get(settlement.lease_id)
            if subscription is not None and subscription.settled(settlement):
                freed.add(subscription.executor)
        return freed

    async def renew(self) -> None:
        """Write the leases of the living: each at most every third of a lease, all that are due at once."""
        while self._left:
            # Taken out first: others may be put there meanwhile.
            left = self._left.pop()
            try:
                await self._close(*left)
            except BaseException:
                self._left.append(left)
                raise
        now = asyncio.get_running_loop().time()
        await self._renew(
            [
                subscription
                for subscription in self.subscriptions()
                if subscription.alive_at > subscription.renewed_at
                and now - subscription.renewed_at >= self._lease_seconds / 3
            ]
        )

    async def renew_all(self) -> None:
        """Write all leases, whenever they were written last: the clock was set, and they may seem to have run out."""
        await self._renew([*self.subscriptions()])

    async def _renew(self, due: Sequence[Subscription]) -> None:
        if not due:
            return
        now = asyncio.get_running_loop().time()
        renewed = await self._dialect.renew_sessions(
            [(each.lease, self._lease_seconds, now - each.alive_at) for each in due]
        )
        for subscription, is_held in zip(due, renewed, strict=True):
            if not is_held:
                _log.warning("lease.lost", session=subscription.hello.session)
                self._lines.start(subscription.close())
            subscription.renewed_at = now

    def doubt(self) -> None:
        """Hear that the database may have given jobs to sessions, or taken some, and that nobody was told."""
        self._audits_due = _AUDITS
        if self._next_audit is not None:
            # It would be too early to be the late one of this doubt.
            self._next_audit.cancel()
        self._doubted.set()

    def abandon(self, session: str) -> None:
        """Hear that whoever asked for jobs under this session got none, and does not know of any."""
        self._abandoned.add(session)
        self.doubt()

    async def _audit(self) -> None:
        """Compare what sessions hold with what the database has, after a doubt and once more somewhat later."""
        await self._doubted.wait()
        self._doubted.clear()
        self._audits_due -= 1
        try:
            await self._audit_abandoned()
            subscriptions = [*self.subscriptions()]
            for start in range(0, len(subscriptions), _AUDITED_AT_ONCE):
                await self._audit_some(subscriptions[start : start + _AUDITED_AT_ONCE])
        except BaseException:
            self.doubt()
            raise
        if self._audits_due > 0:
            self._next_audit = asyncio.get_running_loop().call_later(_LATE_SECONDS, self._doubted.set)

    async def _audit_abandoned(self) -> None:
        abandoned = [*self._abandoned]
        for start in range(0, len(abandoned), _AUDITED_AT_ONCE):
            some = abandoned[start : start + _AUDITED_AT_ONCE]
            await self._dialect.audit_sessions([Audit(session, None) for session in some])
            if not self._audits_due:
                self._abandoned.difference_update(some)

    async def _audit_some(self, subscriptions: Sequence[Subscription]) -> None:
        try:
            await asyncio.gather(*(subscription.pause() for subscription in subscriptions))
            await self._dialect.audit_sessions(
                [Audit(each.hello.session, each.lease, each.held) for each in subscriptions]
            )
        finally:
            for subscription in subscriptions:
                subscription.go_on()

    def _admit(self, hello: Hello, executor: str, *, leases: Sequence[int], worker: str, prefetch: int) -> Subscription:
        """Make a session's subscription, which from now on stands in line and hears of its jobs."""
        subscription = Subscription(
            hello=hello,
            leases=leases,
            worker=worker,
            prefetch=prefetch,
            executor=executor,
            claims_along=self._dialect.shares_transactions,
            expect_credits=lambda: self._lines.expect_credits(executor),
            demand_changed=lambda: self._lines.demand_changed(executor),
            give_back=self._lines.give_back,
            left=self._leave,
            confirm=lambda resumed: self._lines.start(self._confirm(resumed)),
        )
        for lease_id in leases:
            self._by_lease[lease_id] = subscription
        self._lines.join(executor, subscription)
        return subscription

    def _resumed(self, resumed: Resumed) -> None:
        """Let a session go on at its new connection, and end its old one if that is here.

        In the turn in which the commit is told of: what happens to its jobs from then on is told to the new one.
        """
        replaced = self._by_lease.get(resumed.old_lease)
        if replaced is not None:
            self._take_out(replaced)
            replaced.replace()
        wish = self._wishes.get(resumed.resume_hash)
        if wish is None:
            # Whoever asked is gone. The jobs stay leased, and may be resumed again.
            return
        hello = Hello(
            session=wish.token.partition(".")[0],
            resume=wish.token,
            resumed=True,
            held=resumed.held,
            credits=max(0, wish.prefetch - len(resumed.held)),
            lease_seconds=self._lease_seconds,
        )
        wish.subscription = self._admit(
            hello, wish.executor, leases=resumed.leases, worker=resumed.worker, prefetch=wish.prefetch
        )

    async def _confirm(self, subscription: Subscription) -> None:
        try:
            await self._dialect.confirm_resume(subscription.lease)
        except Exception as error:  # noqa: BLE001 - the client's next message confirms once more
            subscription.confirm_failed()
            _log.warning("resume.confirm_failed", session=subscription.hello.session, **cause(error))

    async def _leave(self, subscription: Subscription, unsent: Sequence[Job]) -> None:
        """Take a subscription out of the line; its lease stays while it holds jobs, for a resume or for rescue."""
        self._take_out(subscription)
        if unsent:
            await self._lines.release(unsent)
        left = subscription.lease, subscription.alive_at
        try:
            await self._close(*left)
        except Exception as error:  # noqa: BLE001 - the next renewal tells it
            _log.warning("session.close_failed", session=subscription.hello.session, **cause(error))
            self._left.append(left)

    async def _close(self, lease_id: int, alive_at: float) -> None:
        seconds_ago = asyncio.get_running_loop().time() - alive_at
        await self._dialect.close_session(lease_id, self._lease_seconds, seconds_ago)

    def _take_out(self, subscription: Subscription) -> None:
        for lease_id in subscription.leases:
            self._by_lease.pop(lease_id, None)
        self._lines.leave(subscription.executor, subscription)


def _new_token(session: str) -> str:
    """Return a token that leads to its session and that nobody can guess."""
    return f"{session}.{token_urlsafe(24)}"


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
