"""Any sequence of operations: after each, the answer and all rows are what the model says."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count as counter
from typing import Any

import httpx2
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.api.wire import FAILURE, problem
from tests.fuzz.reference import STATUSES, Model, Once, Refused, constrains
from tests.fuzz.system import GRACE_SECONDS, LEASE_SECONDS, PAYLOAD_BYTES, System

SECOND = 1_000_000
DAY = 86_400 * SECOND
LAST = 7_289_654_399_999_999
"""2200-12-31T23:59:59.999999Z."""
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
BIG = "x" * (PAYLOAD_BYTES * 2 // 3)
"""Two of them are too much for one job."""

NOW = ("now", 0)

executors = st.sampled_from(["mail", "mail", "mail", "post"])
VALUES = [None, 1, 1.0, True, "1", {"a": 1, "b": [1.0]}, {"b": [1.0], "a": 1}, {"a": 1.0, "b": [1]}, []]
values = st.sampled_from(VALUES)
payloads = st.sampled_from([*VALUES, BIG])
tags = st.lists(st.sampled_from(["red", "blue", "green"]), max_size=3)
priorities = st.sampled_from([0, 0, 1, 2, 65_535])
max_attempts = st.sampled_from([1, 2, 3, 65_535])
statuses = st.lists(st.sampled_from(STATUSES), min_size=1, max_size=3)
spans = st.sampled_from([0, 1, 2, SECOND, 2 * SECOND, LEASE_SECONDS * SECOND, DAY])
times = st.sampled_from([("at", 0), ("at", -1), ("at", -SECOND)]) | st.tuples(st.sampled_from(["at", "delay"]), spans)
late_times = times | st.sampled_from([("at", 2 * LAST), ("delay", 2 * LAST)])
leases = st.sampled_from([SECOND, 10 * SECOND, 43_200 * SECOND])
operations = st.sampled_from(["complete", "retry", "retry", "discard", "cancel", "snooze", "snooze", "release"])
ABSENT = 11
picks = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 4, 5, ABSENT])
"""Often the same job: what an operation does may depend on the one before."""
keys = st.sampled_from([None] * 4 + ["red", "blue", "green"])
"""Under few keys what is asked for is often another thing: to repeat the same is a rule of its own."""
fences = st.sampled_from(["its", "former", "former", "next", "none"])
errors = st.fixed_dictionaries(
    {"error_type": st.sampled_from(["panic", "custom", "é" * 200, "\0"]), "message": st.sampled_from(["", "it\0broke"])}
)
calls = st.tuples(operations, late_times, errors)
replaceable = st.lists(st.sampled_from(["scheduled_at", "data", "metadata", "priority", "max_attempts"]), min_size=1)
criteria = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from(["1", 1, "2"]),
        "executor": st.booleans(),
        "duration": spans,
        "statuses": statuses,
        "on_conflict": st.just("do_nothing")
        | st.fixed_dictionaries(
            {"replace": replaceable},
            optional={"for_statuses": statuses},
        ),
    },
)
new_jobs = st.fixed_dictionaries(
    {
        "executor": executors,
        "data": payloads,
        "metadata": payloads,
        "max_attempts": max_attempts,
        "priority": priorities,
        "tags": tags,
        "scheduled_at": st.just(NOW) | times,
        "criteria": st.none() | criteria.filter(constrains) | criteria,
    }
)
plain_jobs = st.fixed_dictionaries(
    {
        "executor": executors,
        "data": values,
        "metadata": st.none(),
        "max_attempts": max_attempts,
        "priority": priorities,
        "tags": tags,
        "scheduled_at": st.just(NOW) | times,
        "criteria": st.none(),
    }
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "data": payloads,
        "metadata": payloads,
        "max_attempts": max_attempts,
        "priority": priorities,
        "tags": tags,
        "scheduled_at": times,
    },
)
leaves = st.one_of(
    st.fixed_dictionaries({"executor_equal": executors | st.just("no executor!")}),
    st.fixed_dictionaries({"data_equals": values}),
    st.fixed_dictionaries({"metadata_equals": values}),
    st.fixed_dictionaries({"id_equals": picks}),
    st.fixed_dictionaries({"id_in": st.lists(picks, max_size=3)}),
    st.fixed_dictionaries({"status_equal": st.sampled_from(STATUSES)}),
    st.fixed_dictionaries({"tags_all_of": tags}),
    st.fixed_dictionaries({"tags_one_of": tags}),
    st.fixed_dictionaries({"scheduled_at_before": st.tuples(picks, spans)}),
    st.fixed_dictionaries({"scheduled_at_after": st.tuples(picks, spans)}),
    st.fixed_dictionaries({"scheduled_at_equal": st.tuples(picks, spans)}),
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.fixed_dictionaries({"and": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"or": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"not": inner})
    ),
    max_leaves=6,
)
prunes = st.fixed_dictionaries(
    {
        "status": st.sampled_from(STATUSES),
        "prune_by": st.fixed_dictionaries({"max_age": spans})
        | st.fixed_dictionaries({"max_length": st.integers(0, 3)}),
    },
    optional={
        "executors": st.fixed_dictionaries({"only": st.lists(executors, max_size=2)})
        | st.fixed_dictionaries({"except": st.lists(executors, max_size=2)}),
        "dry_run": st.booleans(),
    },
)


LIVES = counter()


class ServiceMachine(RuleBasedStateMachine):
    """One life of a service. ``system`` begins empty, and is emptied at the end, but for the answers that it keeps."""

    def __init__(self, system: System, *, require_fence: bool) -> None:
        super().__init__()
        self.system = system
        self.sent: list[tuple[int, Any, int | None]] = []
        self.keyed: list[Callable[[], None]] = []
        self.life = next(LIVES)
        self.repeated = False
        self.model = Model(
            now=system.now,
            lease=LEASE_SECONDS * SECOND,
            grace=GRACE_SECONDS * SECOND,
            payload_bytes=PAYLOAD_BYTES,
            require_fence=require_fence,
        )

    @initialize(
        bodies=st.lists(plain_jobs, min_size=1, max_size=3),
        ends=st.lists(st.sampled_from(["retry", "snooze", "release"]), max_size=3),
        held=st.integers(1, 3),
    )
    def begin(self, bodies, ends, held):
        """With jobs that were tried before, and some that are held."""
        self.enqueue_many(bodies, "red")
        for end in ends:
            self.claim("mail", 3, "ada", None)
            for job_id in self.held():
                self.send_acknowledgement(job_id, (end, ("at", 0), FAILURE), self.model.jobs[job_id].fence)
        self.claim("mail", held, "ada", None)

    @rule(body=new_jobs, key=keys)
    def enqueue(self, body, key=None):
        self.repeatable(self.send_enqueue, self.at_fixed_times(body), key=key)

    def send_enqueue(self, body, *, key):
        answer = self.system.request("POST", "/v1/jobs", self.on_the_wire(body), **self.key_header(key))
        ids = [answer.json()["id"]] if answer.is_success else [self.model.last_id + 1]
        once = self.once(answer, key)
        expected = self.expect_once(answer, lambda: self.model.enqueue_many([self.at_instants(body)], ids, once)[0])
        if expected is not None:
            assert answer.status_code == (201 if expected["outcome"] == "inserted" else 200)
            assert answer.headers["location"] == f"/v1/jobs/{expected['id']}"

    @precondition(lambda self: self.model.jobs)
    @rule(pick=picks, body=new_jobs, replaced=replaceable)
    def enqueue_a_duplicate(self, pick, body, replaced):
        """Of a job in its status, whatever that is: criteria at random rarely meet an executing one."""
        job = self.model.jobs.get(self.pick(pick)) or next(iter(self.model.jobs.values()))
        replace = {"replace": replaced, "for_statuses": [job.status]}
        meant = {"executor": True, "statuses": [job.status], "on_conflict": replace}
        self.enqueue(body | {"executor": job.executor, "criteria": meant})

    @rule(bodies=st.lists(new_jobs, max_size=5), key=keys)
    def enqueue_many(self, bodies, key=None):
        self.repeatable(self.send_bulk, [self.at_fixed_times(body) for body in bodies], key=key)

    def send_bulk(self, bodies, *, key):
        wire = {"jobs": [self.on_the_wire(body) for body in bodies]}
        answer = self.system.request("POST", "/v1/jobs/bulk", wire, **self.key_header(key))
        if answer.is_success:
            ids = [result["id"] for result in answer.json()["results"]]
        else:
            ids = [self.model.last_id + 1 + number for number in range(len(bodies))]
        bodies = [self.at_instants(body) for body in bodies]
        once = self.once(answer, key)
        self.expect_once(answer, lambda: {"results": self.model.enqueue_many(bodies, ids, once)})

    @rule(executor=executors, limit=st.integers(1, 4), worker=st.sampled_from(["ada", None]), lease=st.none() | leases)
    def claim(self, executor, limit, worker, lease):
        wanted = given(limit=limit, worker=worker, lease=None if lease is None else lease // SECOND)
        answer = self.system.request("POST", f"/v1/executors/{executor}/claim", wanted)
        self.expect(answer, lambda: {"jobs": self.model.claim(executor, limit, worker, lease)})

    @rule(pick=picks, held=st.booleans(), call=calls, fence=fences)
    def acknowledge(self, pick, held, call, fence):
        job_id = self.pick(pick, held=held)
        self.send_acknowledgement(job_id, call, self.fence_of(job_id, fence))

    @precondition(lambda self: self.held())
    @rule(pick=picks, call=calls)
    def acknowledge_as_its_worker(self, pick, call):
        job_id = self.pick(pick, held=True)
        self.send_acknowledgement(job_id, call, self.model.jobs[job_id].fence)

    @rule(pick=picks, held=st.booleans(), call=calls)
    def acknowledge_as_an_operator(self, pick, held, call):
        self.send_acknowledgement(self.pick(pick, held=held), call, None)

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(1, 3), as_operator=st.booleans())
    def acknowledge_again(self, number, as_operator):
        job_id, call, fence = self.sent[-number % len(self.sent)]
        self.send_acknowledgement(job_id, call, None if as_operator else fence)

    def send_acknowledgement(self, job_id, call, fence):
        operation, at, error = call
        at = at if operation in {"retry", "snooze"} else None
        error = error if operation in {"retry", "discard", "cancel"} else None
        self.sent.append((job_id, call, fence))
        body = given(fence=fence, error=error) | ({} if at is None else self.wire_time("next_scheduled_at", at))
        answer = self.system.request("POST", f"/v1/jobs/{job_id}/{operation}", body)
        if operation == "release" and fence is None:
            assert problem(answer) == (422, "validation-error")
            return
        instant = None if at is None else min(self.model.now + at[1], LAST)
        self.expect(answer, lambda: self.model.acknowledge(operation, job_id, fence, instant, error), job_id)

    @rule(pick=picks, fence=fences, lease=st.none() | leases)
    def renew_lease(self, pick, fence, lease):
        job_id = self.pick(pick)
        fence = self.fence_of(job_id, fence)
        body = given(fence=fence, lease=None if lease is None else lease // SECOND)
        answer = self.system.request("POST", f"/v1/jobs/{job_id}/heartbeat", body)
        if fence is None:
            assert problem(answer) == (422, "validation-error")
            return
        self.expect(answer, lambda: self.model.renew_lease(job_id, fence, lease), job_id)

    @rule(pick=picks, force=st.booleans(), key=keys)
    def rerun(self, pick, force, key):
        self.repeatable(self.send_rerun, self.pick(pick), force, key=key)

    def send_rerun(self, job_id, force, *, key):
        answer = self.system.request("POST", f"/v1/jobs/{job_id}/rerun", {"force": force}, **self.key_header(key))
        once = self.once(answer, key)
        self.expect_once(answer, lambda: self.model.rerun(job_id, force=force, once=once), job_id)

    def repeatable(self, send, *what, key):
        """Send, and remember what was sent under a key: in these very words it is a repeat."""
        if key is not None:
            self.keyed.append(lambda: send(*what, key=key))
        send(*what, key=key)

    @precondition(lambda self: self.keyed)
    @rule(number=st.integers(1, 3), span=st.sampled_from([0] * 6 + [DAY - 1, DAY]))
    def repeat(self, number, span):
        """Do again what was done under a key, its answer kept or, a day later, not."""
        self.pass_time(span)
        self.keyed[-number % len(self.keyed)]()

    @rule(pick=picks, changed=changes, versions=st.none() | st.lists(st.integers(-1, 1), max_size=2))
    def update(self, pick, changed, versions):
        job_id = self.pick(pick)
        if versions is not None:
            current = self.model.jobs[job_id].version if job_id in self.model.jobs else 1
            versions = [current + offset for offset in versions]
        headers = {"if-match": ", ".join(f'"{version}"' for version in versions)} if versions else {}
        answer = self.system.request("PATCH", f"/v1/jobs/{job_id}", self.on_the_wire(changed), **headers)
        row = self.expect(
            answer, lambda: self.model.update(job_id, self.at_instants(changed), versions or None), job_id
        )
        if row is not None:
            assert answer.headers["etag"] == f'"{row["version"]}"'

    @rule(spec=prunes)
    def prune(self, spec):
        by = spec["prune_by"]
        wire = spec | {"prune_by": {"max_age": iso_duration(by["max_age"])} if "max_age" in by else by}
        answer = self.system.request("POST", "/v1/jobs/prune", wire)
        self.expect(answer, lambda: {"deleted": self.model.prune(spec)})

    @rule(pick=picks, tree=trees, limit=st.integers(1, 3))
    def look(self, pick, tree, limit):
        self.get_job(pick)
        self.list_executors()
        self.query(tree, limit)

    def get_job(self, pick):
        job_id = self.pick(pick)
        answer = self.system.request("GET", f"/v1/jobs/{job_id}")
        row = self.expect(answer, lambda: self.model.get(job_id).row(), job_id)
        if row is not None:
            assert answer.headers["etag"] == f'"{row["version"]}"'

    def query(self, tree, limit):
        tree = self.at_places(tree)
        found, cursor = [], None
        while True:
            body = {"query": wire_tree(tree), "limit": limit, "cursor": cursor}
            answer = self.system.request("POST", "/v1/jobs/query", body)
            assert answer.status_code == 200, answer.text
            page, cursor = answer.json()["jobs"], answer.json()["next_cursor"]
            assert len(page) <= limit
            found += page
            if cursor is None:
                break
        assert comparable(found) == comparable(self.model.query(tree))

    @precondition(lambda self: self.model.jobs and not self.repeated)
    @rule(pick=st.integers(0, ABSENT - 1), count=st.sampled_from([12, 53]))
    def fail_often(self, pick, count):
        """As a job's worker if it is due, else as an operator."""
        self.repeated = True
        job_id = self.pick(pick)
        job = self.model.jobs[job_id]
        for number in range(count):
            if count < 50:
                self.claim(job.executor, 1, f"worker {number}", None)
            fence = job.fence if job.status == "executing" else None
            self.send_acknowledgement(
                job_id, ("retry", ("at", 0), {"error_type": "panic", "message": f"{number}"}), fence
            )

    @rule(span=spans)
    def pass_time(self, span):
        self.system.pass_time(span)
        self.model.now += span
        assert self.model.now == self.system.now

    @rule(span=st.sampled_from([0, (LEASE_SECONDS + GRACE_SECONDS) * SECOND]))
    def rescue(self, span):
        self.pass_time(span)
        rescued = 0
        while found := self.system.rescue():
            rescued += found
        assert rescued == self.model.rescue()

    def list_executors(self):
        answer = self.system.request("GET", "/v1/executors")
        assert comparable(answer.json()) == comparable({"executors": self.model.list_executors()})

    @invariant()
    def rows_are_the_same(self):
        answer = self.system.request("POST", "/v1/jobs/query", {"query": {"and": []}, "limit": 1000})
        assert comparable(answer.json()["jobs"]) == comparable(self.model.query({"and": []}))

    def teardown(self):
        try:
            self.list_executors()
        finally:
            self.delete_all()

    def delete_all(self):
        """Whatever there is: what a life that failed leaves behind would fail the next one too."""
        executing = self.system.request("POST", "/v1/jobs/query", {"query": {"status_equal": "executing"}})
        for job in executing.json()["jobs"]:
            self.system.request("POST", f"/v1/jobs/{job['id']}/rerun", {"force": True})
        for status in {*STATUSES} - {"executing"}:
            self.system.request("POST", "/v1/jobs/prune", {"status": status, "prune_by": {"max_length": 0}})
        assert self.system.request("GET", "/v1/executors").json() == {"executors": []}

    def expect(self, answer: httpx2.Response, call: Any, job_id: int | None = None) -> Any:
        """Compare an answer with the model's; return that, or None if both refuse."""
        try:
            expected = call()
        except Refused as refusal:
            self.expect_refusal(answer, refusal, job_id)
            return None
        assert answer.is_success, answer.text
        assert comparable(answer.json()) == comparable(expected)
        return expected

    def expect_once(self, answer: httpx2.Response, call: Any, job_id: int | None = None) -> Any:
        """Compare the answer to a call that may bear a key; what was answered before says so."""
        expected = self.expect(answer, call, job_id)
        is_replay = expected is not None and self.model.replayed
        assert answer.headers.get("idempotency-replayed") == ("true" if is_replay else None)
        return expected

    def once(self, answer: httpx2.Response, key: str | None) -> Once | None:
        """What the model is told of a key: the body as it went over the wire."""
        return None if key is None else Once(answer.request.url.path, key, answer.request.content)

    def key_header(self, key: str | None) -> dict[str, str]:
        """A key of this life: the service remembers those of the one before."""
        return {} if key is None else {"idempotency-key": f"{key}/{self.life}"}

    def expect_refusal(self, answer: httpx2.Response, refusal: Refused, job_id: int | None) -> None:
        assert problem(answer) == refusal.args
        document = answer.json()
        assert document.get("job_id", job_id) == job_id
        if "current_status" in document:
            assert document["current_status"] == self.model.jobs[document["job_id"]].status

    def pick(self, number: int, *, held: bool = False) -> int:
        """The id of a job, of one that is held if there is one and it is wanted; or one that no job has."""
        ids = (self.held() if held else []) or sorted(self.model.jobs)
        return ids[number % len(ids)] if ids and (held or number != ABSENT) else self.model.last_id + 1

    def held(self) -> list[int]:
        return [job.id for job in self.model.jobs.values() if job.status == "executing"]

    def fence_of(self, job_id: int, kind: str) -> int | None:
        its = self.model.jobs[job_id].fence if job_id in self.model.jobs else 1
        return {"its": its, "former": max(its - 1, 0), "next": its + 1, "none": None}[kind]

    def at_fixed_times(self, body: dict[str, Any]) -> dict[str, Any]:
        """What reads the same whenever it is sent: an instant that is given as one does not move with the clock."""
        form, span = body["scheduled_at"]
        return body | {"scheduled_at": ("on", self.model.now + span)} if form == "at" else body

    def at_instants(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the model is told: an instant in the place of a form and a span."""
        if "scheduled_at" not in body:
            return body
        form, span = body["scheduled_at"]
        return body | {"scheduled_at": span if form == "on" else self.model.now + span}

    def on_the_wire(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the service is told."""
        wire = {name: value for name, value in body.items() if name not in {"scheduled_at", "criteria"}}
        wanted = body.get("criteria")
        if wanted is not None:
            duration = {"duration": iso_duration(wanted["duration"])} if "duration" in wanted else {}
            wire["uniqueness_criteria"] = wanted | duration
        return wire | self.wire_time("scheduled_at", body.get("scheduled_at", NOW))

    def wire_time(self, name: str, when: tuple[str, int]) -> dict[str, str]:
        form, span = when
        match form:
            case "on":
                return {name: text_of(span)}
            case "at":
                return {name: text_of(self.model.now + span)}
            case "delay":
                return {"delay": iso_duration(span)}
        return {}

    def at_places(self, tree: Any) -> Any:
        """Return the query with ids in the place of picks, and instants near a job's in that of places."""
        ((name, operand),) = tree.items()
        match name:
            case "and" | "or":
                return {name: [self.at_places(each) for each in operand]}
            case "not":
                return {name: self.at_places(operand)}
            case "id_equals":
                return {name: self.pick(operand)}
            case "id_in":
                return {name: [self.pick(each) for each in operand]}
            case "scheduled_at_before" | "scheduled_at_after" | "scheduled_at_equal":
                pick, span = operand
                job = self.model.jobs.get(self.pick(pick))
                return {name: min((self.model.now if job is None else job.scheduled_at) + span, LAST)}
        return tree


def wire_tree(tree: Any) -> Any:
    """The query with its instants as text."""
    ((name, operand),) = tree.items()
    match name:
        case "and" | "or":
            return {name: [wire_tree(each) for each in operand]}
        case "not":
            return {name: wire_tree(operand)}
    return {name: text_of(operand)} if name.startswith("scheduled_at_") else tree


def given(**members: Any) -> dict[str, Any]:
    """The members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def text_of(instant: int) -> str:
    return (EPOCH + timedelta(microseconds=instant)).isoformat()


def iso_duration(span: int) -> str:
    return f"PT{span // SECOND}.{span % SECOND:06d}S"


def comparable(value: Any, name: str = "") -> Any:
    """The value with its instants as microseconds, and opaque JSON as text, in which 1 is neither 1.0 nor true."""
    if name in {"data", "metadata"}:
        return json.dumps(value, sort_keys=True)
    if name.endswith("_at") and isinstance(value, str):
        assert INSTANT.fullmatch(value), value
        return (datetime.fromisoformat(value) - EPOCH) // timedelta(microseconds=1)
    if isinstance(value, dict):
        return {member: comparable(each, member) for member, each in value.items()}
    return [comparable(each) for each in value] if isinstance(value, list) else value
