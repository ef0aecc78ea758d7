"""Calls over REST that are written down with whatever came of them, and the roles that make them."""

import asyncio
from random import Random
from typing import Any
from uuid import uuid4

import httpx2

from tests.history.lines import (
    FINAL,
    Answered,
    Called,
    Connected,
    Delivered,
    Outcome,
    Recorder,
    Seen,
    Stored,
    instant,
    now,
)
from tests.history.stream_worker import FAILURE

QUIET = "quiet"
"""The executor that no worker serves: there a refused call is seen to change nothing."""
_CLAIM_LEASE_SECONDS = 2
_AWAY_SECONDS = 0.3
"""To wait after a call that got no answer."""


class RestClient:
    """One HTTP client; every call is recorded."""

    def __init__(self, http: httpx2.AsyncClient, recorder: Recorder, dice: Random, executors: list[str]) -> None:
        """Speak for producers, operators and pollers of some executors."""
        self._http = http
        self._recorder = recorder
        self._dice = dice
        self._executors = executors
        self.known: list[int] = []
        """Jobs that were acknowledged."""
        self.odd_answers: list[str] = []
        """Of those that are the service's fault, all but a 503 that says when to come again."""
        self.cut_off = 0
        """How many calls got no answer at all."""
        self.slowest_seconds = 0.0

    # Producers.

    async def produce(self, pause_seconds: float) -> None:
        """Enqueue for ever, one by one and in bulks."""
        while True:
            await self.enqueue(self._dice.choice(self._executors), self._dice.choice([1, 1, 1, 1, 5]))
            await asyncio.sleep(self._dice.uniform(0, 2 * pause_seconds))

    async def enqueue(self, executor: str, count: int, **members: Any) -> list[int]:
        """Enqueue jobs with markers of their own; return their ids, none if the outcome is unknown."""
        markers = [uuid4().hex for _ in range(count)]
        members |= self._dice.choice([{}, {}, {}, {"delay": 0.3}, {"max_attempts": 2}, {"priority": 3}])
        jobs = [{"executor": executor, "data": {"marker": marker}, **members} for marker in markers]
        path, body = ("/v1/jobs", jobs[0]) if count == 1 else ("/v1/jobs/bulk", {"jobs": jobs})
        headers = self._key()
        for attempt in range(4):
            at = now()
            not_before = at + int(members["delay"] * 1_000_000) if "delay" in members and attempt == 0 else None
            asked = Called(
                at=at, call=uuid4().hex, operation="enqueue", executor=executor, markers=markers, not_before=not_before
            )
            outcome, answer = await self._call(asked, "POST", path, body, headers=headers)
            if outcome is not Outcome.UNKNOWN:
                ids = _ids(answer) if outcome is Outcome.ACCEPTED else []
                self.known.extend(ids)
                return ids
            if not headers or self._dice.random() < 0.3:
                break
        return []

    def _key(self) -> dict[str, str]:
        """Return the header that makes a call safe to repeat, half the time."""
        return {"Idempotency-Key": uuid4().hex} if self._dice.random() < 0.5 else {}

    # Operators.

    async def operate(self, pause_seconds: float) -> None:
        """Interfere for ever with jobs, running or not."""
        while True:
            await asyncio.sleep(self._dice.uniform(0, 2 * pause_seconds))
            if self._dice.random() < 0.1:
                await self.refusals()
            elif self._dice.random() < 0.1:
                await self.prune()
            elif self.known:
                await self._interfere(self._dice.choice(self.known[-300:]))

    async def _interfere(self, job_id: int) -> None:
        path = f"/v1/jobs/{job_id}"
        match self._dice.choice(["cancel", "cancel", "rerun", "force", "update", "complete", "retry", "get"]):
            case "cancel":
                await self.act("cancel", job_id, {"error": FAILURE})
            case "rerun":
                await self.act("rerun", job_id, {})
            case "force":
                await self.act("rerun", job_id, {"force": True})
            case "complete":
                await self.act("complete", job_id, {})
            case "retry":
                await self.act("retry", job_id, {"delay": 0, "error": FAILURE})
            case "update":
                asked = Called(at=now(), call=uuid4().hex, operation="update", job_id=job_id)
                await self._call(asked, "PATCH", path, {"priority": self._dice.randrange(5)})
            case "get":
                await self.see(job_id)

    async def act(self, operation: str, job_id: int, body: dict[str, Any], *, fence: int | None = None) -> Outcome:
        """Make an operation on a job."""
        at = now()
        delay = body.get("delay")
        asked = Called(
            at=at,
            call=uuid4().hex,
            operation=operation,
            job_id=job_id,
            fence=fence,
            not_before=None if delay is None else at + int(delay * 1_000_000),
        )
        body = body if fence is None else {**body, "fence": fence}
        headers = self._key() if operation == "rerun" else {}
        return (await self._call(asked, "POST", f"/v1/jobs/{job_id}/{operation}", body, headers=headers))[0]

    async def press(self) -> None:
        """Do for ever what operators do seldom: prune, and run jobs again."""
        while True:
            await self.prune({"max_length": 5})
            if self.known:
                await self.act("rerun", self._dice.choice(self.known[-300:]), {})
            await asyncio.sleep(0.05)

    async def prune(self, by: dict[str, int] | None = None) -> None:
        """Delete some finished jobs."""
        executors = [self._dice.choice(self._executors)]
        status = self._dice.choice(["complete", "cancelled"])
        asked = Called(at=now(), call=uuid4().hex, operation="prune", pruned_status=status, pruned_executors=executors)
        by = by or self._dice.choice([{"max_age": 5}, {"max_length": 100}])
        body = {"status": status, "prune_by": by, "executors": {"only": executors}}
        await self._call(asked, "POST", "/v1/jobs/prune", body)

    async def refusals(self) -> None:
        """Ask for what must be refused, and look at the job before and after; at last end it."""
        bad = Called(at=now(), call=uuid4().hex, operation="enqueue", executor=QUIET, markers=[uuid4().hex])
        await self._call(
            bad, "POST", "/v1/jobs", {"executor": QUIET, "data": {"marker": bad.markers[0]}, "priority": -1}
        )
        for job_id in await self.enqueue(QUIET, 1):
            await self.see(job_id)
            await self.act("complete", job_id, {}, fence=7)
            await self.act("retry", job_id, {"delay": -1, "error": FAILURE})
            asked = Called(at=now(), call=uuid4().hex, operation="update", job_id=job_id)
            await self._call(asked, "PATCH", f"/v1/jobs/{job_id}", {"priority": 9}, headers={"If-Match": '"77"'})
            await self.see(job_id)
            if await self.act("cancel", job_id, {"error": FAILURE}) is Outcome.ACCEPTED:
                await self.see(job_id)
                await self.act("complete", job_id, {})
                await self.see(job_id)

    async def see(self, job_id: int) -> None:
        """Note a job's version."""
        asked_at = now()
        try:
            answer = await self._http.get(f"/v1/jobs/{job_id}")
        except httpx2.TransportError:
            return
        if answer.status_code == 200:
            self._recorder.write(Seen(at=now(), asked_at=asked_at, job_id=job_id, version=answer.json()["version"]))

    # Workers without WebSocket.

    async def poll(self) -> None:
        """Claim for ever, and acknowledge most of it."""
        while True:
            executor = self._dice.choice(self._executors)
            asked = Called(at=now(), call=uuid4().hex, operation="claim", executor=executor)
            body: dict[str, Any] = {"limit": 3, "wait": 0.5, "lease": _CLAIM_LEASE_SECONDS}
            _, answer = await self._call(asked, "POST", f"/v1/executors/{executor}/claim", body)
            for job in self._note_claim(asked, answer) if answer else []:
                if self._dice.random() < 0.3:
                    await self._renew(job)
                operation = self._dice.choice(["complete"] * 8 + ["release", "snooze", "vanish"])
                if operation != "vanish":
                    body = {"delay": 0.1} if operation == "snooze" else {}
                    await self.act(operation, job["id"], body, fence=job["fence"])
            await asyncio.sleep(0.1)

    def _note_claim(self, asked: Called, answer: dict[str, Any]) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = answer["jobs"]
        opened = Connected(
            at=now(),
            asked_at=asked.at,
            connection=asked.call,
            executor=asked.executor or "",
            session=asked.call,
            credits=3,
            returns=False,
            lease=_CLAIM_LEASE_SECONDS * 1_000_000,
        )
        self._recorder.write(opened)
        for job in jobs:
            self._recorder.write(
                Delivered(
                    at=now(),
                    connection=asked.call,
                    job_id=job["id"],
                    fence=job["fence"],
                    version=job["version"],
                    scheduled_at=instant(job["scheduled_at"]),
                    attempted_at=instant(job["attempted_at"]),
                    lease_expires_at=instant(job["lease_expires_at"]),
                )
            )
        return jobs

    async def _renew(self, job: dict[str, Any]) -> None:
        asked = Called(at=now(), call=uuid4().hex, operation="heartbeat", job_id=job["id"], fence=job["fence"])
        body = {"fence": job["fence"], "lease": _CLAIM_LEASE_SECONDS}
        await self._call(asked, "POST", f"/v1/jobs/{job['id']}/heartbeat", body)

    # At the end.

    async def unfinished(self) -> int:
        """Return how many jobs have not ended, 1,000 at most."""
        statuses = [{"status_equal": status} for status in ("scheduled", "executing", "retryable")]
        answer = await self._http.post("/v1/jobs/query", json={"query": {"or": statuses}, "limit": 1000})
        answer.raise_for_status()
        jobs = answer.json()["jobs"]
        for job in jobs:
            if job["executor"] == QUIET:
                await self.act("cancel", job["id"], {"error": FAILURE})
        return len(jobs)

    async def dump(self) -> int:
        """Write down all jobs that are stored; return how many have ended."""
        cursor, ended = None, 0
        while True:
            body: dict[str, Any] = {"query": {"and": []}, "limit": 1000, "cursor": cursor}
            answer = await self._http.post("/v1/jobs/query", json=body)
            answer.raise_for_status()
            page = answer.json()
            for job in page["jobs"]:
                ended += job["status"] in FINAL
                self._recorder.write(
                    Stored(
                        job_id=job["id"],
                        executor=job["executor"],
                        status=job["status"],
                        fence=job["fence"],
                        version=job["version"],
                        marker=job["data"]["marker"],
                    )
                )
            cursor = page["next_cursor"]
            if cursor is None:
                return ended

    async def _call(
        self, asked: Called, method: str, path: str, body: Any, **options: Any
    ) -> tuple[Outcome, dict[str, Any] | None]:
        """Call, and write down how it ended; what was begun has a line even if nothing ever comes of it."""
        self._recorder.write(asked)
        began_at = asyncio.get_running_loop().time()
        try:
            response = await self._http.request(method, path, json=body, **options)
        except httpx2.TransportError:
            self._recorder.write(Answered(at=now(), call=asked.call, outcome=Outcome.UNKNOWN))
            self.cut_off += 1
            await asyncio.sleep(_AWAY_SECONDS)
            return Outcome.UNKNOWN, None
        self.slowest_seconds = max(self.slowest_seconds, asyncio.get_running_loop().time() - began_at)
        if response.status_code >= 500 and not (response.status_code == 503 and "Retry-After" in response.headers):
            self.odd_answers.append(f"{method} {path} was answered with {response.status_code}: {response.text[:200]}")
        answer = response.json() if response.status_code < 300 else {}
        outcome = _outcome(response.status_code, answer)
        self._recorder.write(
            Answered(
                at=now(),
                call=asked.call,
                outcome=outcome,
                status=response.status_code,
                job_ids=_ids(answer) if asked.operation == "enqueue" and outcome is Outcome.ACCEPTED else [],
                deleted=answer.get("deleted", 0),
                lease_expires_at=instant(answer["lease_expires_at"])
                if asked.operation == "heartbeat" and answer
                else None,
            )
        )
        return outcome, answer or None


def _outcome(status: int, answer: dict[str, Any]) -> Outcome:
    if status >= 500:
        return Outcome.UNKNOWN
    if status >= 300:
        return Outcome.REFUSED
    return Outcome.DUPLICATE if answer.get("duplicate") else Outcome.ACCEPTED


def _ids(answer: dict[str, Any] | None) -> list[int]:
    if answer is None:
        return []
    return [each["id"] for each in answer.get("results", [answer])]
