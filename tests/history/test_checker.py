"""The judge itself: a good history has no violation, and for each rule a broken one has just that."""

from itertools import chain

import pytest

from tests.history.checker import Rule, find_violations
from tests.history.lines import (
    Alive,
    Answered,
    AnyLine,
    Called,
    Connected,
    Delivered,
    Outcome,
    Recorder,
    Requested,
    Revoked,
    Seen,
    Stopped,
    Stored,
    read_history,
)

SECOND = 1_000_000
LEASE = SECOND
ACCEPTED, DUPLICATE, REFUSED, UNKNOWN = Outcome


def ask(call, at, operation, outcome=ACCEPTED, *, until=None, told=None, **members) -> list[AnyLine]:
    """A call and its answer; what has no known outcome has no answer either."""
    lines: list[AnyLine] = [Called(at=at, call=call, operation=operation, **members)]
    if outcome is not UNKNOWN:
        lines.append(Answered(at=until or at + 10, call=call, outcome=outcome, **(told or {})))
    return lines


def enqueue(job_id, at=0, outcome=ACCEPTED, **members):
    told = {"job_ids": [job_id]} if outcome is ACCEPTED else {}
    members = {"executor": "mail", "markers": [f"m{job_id}"], **members}
    return ask(f"enqueue-{job_id}", at, "enqueue", outcome, told=told, **members)


def hello(connection="a", at=100, **members):
    members = {"session": connection, "credits": 5, "returns": True, "lease": LEASE, "executor": "mail", **members}
    return [Connected(at=at, connection=connection, asked_at=at - 10, **members)]


def job(job_id, fence, at, connection="a", **members):
    members = {
        "scheduled_at": 0,
        "attempted_at": at - 5,
        "lease_expires_at": at + LEASE,
        "version": 2 * fence,
        **members,
    }
    return [Delivered(at=at, connection=connection, job_id=job_id, fence=fence, **members)]


def ack(job_id, fence, at, operation="complete", outcome=ACCEPTED, **members):
    return ask(f"{operation}-{job_id}-{fence}-{at}", at, operation, outcome, job_id=job_id, fence=fence, **members)


def stored(job_id, status="complete", *, fence=1, version=9, executor="mail", marker=None):
    marker = marker or f"m{job_id}"
    return [Stored(job_id=job_id, executor=executor, status=status, fence=fence, version=version, marker=marker)]


def prune(at, outcome=ACCEPTED, deleted=1, status="complete"):
    members = {"pruned_status": status, "pruned_executors": ["mail"]}
    return ask(f"prune-{at}", at, "prune", outcome, told={"deleted": deleted}, **members)


def told(rule, *parts):
    """That the history of these parts breaks this rule and no other."""
    return {violation.rule for violation in find_violations(chain(*parts))} == {rule}


def nothing_told(*parts):
    return find_violations(chain(*parts)) == []


DONE_ONCE = enqueue(1) + hello() + job(1, 1, 200) + ack(1, 1, 300)


def test_a_job_done_once_is_fine():
    assert nothing_told(DONE_ONCE, stored(1))


def test_a_long_and_lawful_history_is_fine():
    """Lost at the end of its lease, retried, cancelled, run again, resumed, refused late, pruned."""
    lost = SECOND + 300
    assert nothing_told(
        enqueue(1) + enqueue(2) + enqueue(3, outcome=UNKNOWN),
        hello() + job(1, 1, 200, lease_expires_at=lost),
        hello("b", returns=False, credits=0),
        [Requested(at=110, connection="b", credits=2)],
        job(1, 2, lost + 100, "b") + ack(1, 1, lost + 200, outcome=REFUSED),
        ack(1, 2, lost + 300, "retry", not_before=2 * SECOND) + ack(1, 2, lost + 350, "retry", DUPLICATE),
        job(1, 3, 2 * SECOND + 100, "b"),
        ask("cancel", 2 * SECOND + 200, "cancel", job_id=1),
        [Revoked(at=2 * SECOND + 250, connection="b", job_id=1, fence=3, reason="cancelled")],
        ask("rerun", 2 * SECOND + 300, "rerun", job_id=1),
        hello("c", at=2 * SECOND + 310) + job(1, 5, 2 * SECOND + 400, "c"),
        hello("d", at=2 * SECOND + 500, session="c", resumes="c", resumed=True, held=[(1, 5)]),
        ack(1, 5, 2 * SECOND + 600, outcome=UNKNOWN) + ack(1, 5, 2 * SECOND + 700, outcome=DUPLICATE),
        job(2, 1, 2 * SECOND + 800, "d") + ack(2, 1, 2 * SECOND + 900) + prune(2 * SECOND + 1_000),
        stored(1, fence=5) + stored(3, "cancelled", fence=0),
    )


def test_an_enqueued_job_that_is_gone_is_told():
    assert told(Rule.EXISTS_ONCE, enqueue(1))
    assert nothing_told(enqueue(1, outcome=UNKNOWN))


def test_a_job_stored_twice_is_told():
    assert told(Rule.EXISTS_ONCE, DONE_ONCE, stored(1), stored(2, marker="m1"))
    assert told(Rule.EXISTS_ONCE, DONE_ONCE, stored(1), stored(1))


def test_a_repeat_that_made_another_job_is_told():
    again = ask("again", 20, "enqueue", told={"job_ids": [2]}, executor="mail", markers=["m1"])
    assert told(Rule.EXISTS_ONCE, enqueue(1), again, stored(1), stored(2))


def test_two_enqueues_answered_with_one_job_are_told():
    other = ask("other", 20, "enqueue", told={"job_ids": [1]}, executor="mail", markers=["m2"])
    assert told(Rule.EXISTS_ONCE, enqueue(1), other, stored(1))


def test_a_prune_excuses_only_what_it_may_have_deleted():
    assert nothing_told(DONE_ONCE, prune(400))
    assert nothing_told(DONE_ONCE, prune(400, UNKNOWN))
    assert told(Rule.EXISTS_ONCE, DONE_ONCE, prune(400, deleted=0))
    assert told(Rule.EXISTS_ONCE, DONE_ONCE, prune(400, REFUSED))
    assert told(Rule.EXISTS_ONCE, DONE_ONCE, prune(400, status="cancelled"))
    assert told(Rule.EXISTS_ONCE, enqueue(1, at=500), prune(400))


def test_a_job_that_never_ended_is_told():
    assert told(Rule.ENDS, enqueue(1), stored(1, "scheduled", fence=0))
    assert told(Rule.ENDS, enqueue(1), stored(1, "executing"))


def test_a_fence_delivered_twice_is_told():
    assert told(Rule.FENCE_GROWS, enqueue(1), hello(), job(1, 1, 200), job(1, 1, 210), ack(1, 1, 300), stored(1))


def test_a_fence_that_went_back_is_told():
    released = ack(1, 2, 205, "release") + ack(1, 1, 330, outcome=REFUSED)
    assert told(Rule.FENCE_GROWS, enqueue(1), hello(), job(1, 2, 200), released, job(1, 1, 320), stored(1, fence=2))
    assert told(Rule.FENCE_GROWS, DONE_ONCE, stored(1, fence=0))


def test_a_job_handed_out_within_a_lease_is_told():
    rest = ack(1, 2, SECOND + 1) + stored(1, fence=2)
    assert told(Rule.LEASES_APART, enqueue(1), hello(), hello("b"), job(1, 1, 200), job(1, 2, SECOND // 2, "b"), rest)


def test_a_job_handed_out_a_little_before_its_lease_ran_out_is_told():
    """By 20 ms, whether the job told of the lease, or only a sign of life carried it on."""
    begun = enqueue(1) + hello() + hello("b") + job(1, 1, 200, lease_expires_at=LEASE)
    rest = ack(1, 2, 3 * SECOND) + stored(1, fence=2)
    assert told(Rule.LEASES_APART, begun, job(1, 2, LEASE, "b", attempted_at=LEASE - 20_000), rest)
    assert nothing_told(begun, job(1, 2, LEASE + 200, "b", attempted_at=LEASE + 100), rest)
    heard: list[AnyLine] = [Alive(at=SECOND // 2 + 100, connection="a", sent_at=SECOND // 2)]
    until = SECOND // 2 + LEASE
    assert told(Rule.LEASES_APART, begun, heard, job(1, 2, until, "b", attempted_at=until - 20_000), rest)
    assert nothing_told(begun, heard, job(1, 2, until + 200, "b", attempted_at=until), rest)


def test_a_lease_goes_on_with_each_sign_of_life():
    taken = job(1, 2, 2 * SECOND, "b") + ack(1, 2, 3 * SECOND) + stored(1, fence=2)
    begun = enqueue(1) + hello() + hello("b") + job(1, 1, 200)
    assert nothing_told(begun, taken)
    heard: list[AnyLine] = [Alive(at=SECOND + 900_000, connection="a", sent_at=SECOND + 800_000)]
    assert told(Rule.LEASES_APART, begun, heard, taken)
    beaten = ask("beat", SECOND, "heartbeat", told={"lease_expires_at": 4 * SECOND}, job_id=1, fence=1)
    assert told(Rule.LEASES_APART, begun, beaten, taken)
    back = hello("c", at=SECOND, session="a", resumes="a", resumed=True, held=[(1, 1)])
    late: list[AnyLine] = [Alive(at=SECOND + 900_000, connection="c", sent_at=SECOND + 800_000)]
    assert told(Rule.LEASES_APART, begun, back, late, taken)


def test_a_lease_ends_with_what_may_have_ended_it():
    rest = job(1, 2, 400, "b") + ack(1, 2, 500) + stored(1, fence=2)
    begun = enqueue(1) + hello() + hello("b") + job(1, 1, 200)
    assert nothing_told(begun, ack(1, 1, 300, "release", UNKNOWN), rest)
    assert nothing_told(begun, ask("force", 300, "rerun", job_id=1), rest)
    assert told(Rule.LEASES_APART, begun, ack(1, 1, 300, "release", REFUSED), rest)
    assert told(Rule.LEASES_APART, begun, ack(1, 1, 450, "release", UNKNOWN), rest)


def test_two_outcomes_of_one_fence_are_told():
    snoozed = ack(1, 1, 250, "snooze")
    assert told(Rule.ONE_OUTCOME, enqueue(1), hello(), job(1, 1, 200), snoozed, ack(1, 1, 255), stored(1))
    assert nothing_told(DONE_ONCE, ack(1, 1, 350, outcome=DUPLICATE), stored(1))


def test_an_outcome_accepted_after_the_job_was_handed_on_is_told():
    lost = enqueue(1) + hello() + job(1, 1, 200) + job(1, 2, 2 * SECOND) + ack(1, 1, 3 * SECOND, "snooze")
    assert told(Rule.ONE_OUTCOME, lost, ack(1, 2, 4 * SECOND), stored(1, fence=2))


def test_a_duplicate_of_nothing_is_told():
    assert told(Rule.ONE_OUTCOME, DONE_ONCE, ack(1, 1, 400, "retry", DUPLICATE), stored(1))
    assert told(Rule.ONE_OUTCOME, DONE_ONCE, ack(1, 1, 400, "release", DUPLICATE), stored(1))


def test_the_release_of_a_job_that_never_arrived_may_be_a_duplicate():
    """The service gives it back by itself when it could not send it, perhaps after a resume has told of it."""
    assert nothing_told(enqueue(1), ack(1, 1, 200, "release", DUPLICATE), stored(1, "cancelled"))


def test_a_job_before_its_time_is_told():
    early = job(1, 1, 200, scheduled_at=300)
    assert told(Rule.NOTHING_EARLY, enqueue(1), hello(), early, ack(1, 1, 300), stored(1))


def test_a_job_before_the_time_that_was_asked_for_is_told():
    rest = hello() + job(1, 1, 200) + ack(1, 1, 300) + stored(1)
    assert told(Rule.NOTHING_EARLY, enqueue(1, not_before=250), rest)
    assert nothing_told(enqueue(1, not_before=250), ask("now", 150, "update", job_id=1), rest)
    snoozed = ack(1, 1, 210, "snooze", not_before=600)
    again = job(1, 2, 500) + ack(1, 2, 550)
    assert told(Rule.NOTHING_EARLY, enqueue(1), hello(), job(1, 1, 200), snoozed, again, stored(1, fence=2))


def test_a_completed_job_that_is_handed_out_again_is_told():
    again = job(1, 2, 2 * SECOND) + ack(1, 2, 2 * SECOND + 100, outcome=REFUSED)
    assert told(Rule.FINAL_IS_FINAL, DONE_ONCE, again, stored(1, fence=2))
    rerun = ask("rerun", SECOND, "rerun", UNKNOWN, job_id=1)
    assert nothing_told(DONE_ONCE, rerun, again, stored(1, fence=2))


@pytest.mark.parametrize("operation", ["complete", "cancel", "discard"])
def test_an_acknowledged_end_that_is_not_there_is_told(operation):
    done = enqueue(1) + hello() + job(1, 1, 200) + ack(1, 1, 300, operation)
    other = "complete" if operation != "complete" else "discarded"
    assert told(Rule.FINAL_IS_FINAL, done, stored(1, other))


def test_a_second_end_is_told():
    cancelled = ask("cancel", 400, "cancel", job_id=1)
    assert told(Rule.FINAL_IS_FINAL, DONE_ONCE, cancelled, stored(1, "cancelled"))
    assert nothing_told(DONE_ONCE, ask("rerun", 350, "rerun", job_id=1), cancelled, stored(1, "cancelled"))


def test_a_refused_enqueue_that_is_stored_is_told():
    assert told(Rule.REFUSAL_CHANGES_NOTHING, enqueue(1, outcome=REFUSED), stored(1))


def test_a_refused_change_that_changed_the_job_is_told():
    seen: list[AnyLine] = [Seen(at=120, asked_at=110, job_id=1, version=1)]
    refused = ask("no", 200, "update", REFUSED, job_id=1)
    rest = stored(1, "cancelled", version=2, executor="quiet")
    assert told(Rule.REFUSAL_CHANGES_NOTHING, enqueue(1, executor="quiet"), seen, refused, rest)
    accepted = ask("yes", 200, "update", UNKNOWN, job_id=1)
    assert nothing_told(enqueue(1, executor="quiet"), seen, accepted, rest)


def test_more_than_the_credit_is_told():
    rest = ack(1, 1, 300) + ack(2, 1, 310) + stored(1) + stored(2)
    begun = enqueue(1) + enqueue(2) + hello(credits=1)
    assert told(Rule.WITHIN_CREDIT, begun, job(1, 1, 200), job(2, 1, 210), rest)
    assert nothing_told(begun, job(1, 1, 200), ack(1, 1, 300), job(2, 1, 350), ack(2, 1, 370), stored(1), stored(2))
    asked: list[AnyLine] = [Requested(at=205, connection="a", credits=1)]
    assert nothing_told(begun, job(1, 1, 200), asked, job(2, 1, 210), rest)


def test_an_acknowledgement_without_prefetch_gives_no_credit():
    done = job(1, 1, 200) + ack(1, 1, 250) + job(2, 1, 300) + ack(2, 1, 350) + stored(1) + stored(2)
    assert told(Rule.WITHIN_CREDIT, enqueue(1), enqueue(2), hello(credits=1, returns=False), done)


def test_a_job_after_a_stop_is_told():
    stopped: list[AnyLine] = [Stopped(at=150, connection="a", asked_at=140)]
    rest = job(1, 1, 200) + ack(1, 1, 300) + stored(1)
    assert told(Rule.WITHIN_CREDIT, enqueue(1), hello(), stopped, rest)
    asked_before: list[AnyLine] = [Requested(at=130, connection="a", credits=1)]
    assert told(Rule.WITHIN_CREDIT, enqueue(1), hello(), asked_before, stopped, rest)
    asked_behind: list[AnyLine] = [Requested(at=145, connection="a", credits=1)]
    assert nothing_told(enqueue(1), hello(), asked_behind, stopped, rest)


def test_a_credit_that_may_have_come_back_before_a_stop_or_behind_it_is_one():
    begun = enqueue(1) + enqueue(2) + enqueue(3) + enqueue(4) + hello(credits=2) + job(1, 1, 200) + job(2, 1, 205)
    slow = ack(2, 1, 210) + ask("slow", 250, "release", until=400, job_id=1, fence=1) + job(3, 1, 260)
    stopped: list[AnyLine] = [Stopped(at=310, connection="a", asked_at=300)]
    asked: list[AnyLine] = [Requested(at=320, connection="a", credits=0)]
    rest = ack(3, 1, 500) + ack(4, 1, 510) + ack(1, 2, 600)
    rest += stored(1, fence=2) + stored(2) + stored(3) + stored(4)
    again = job(1, 2, 550, version=4)
    assert nothing_told(begun, slow, stopped, asked, job(4, 1, 360), again, rest)
    quick = ack(2, 1, 210) + ask("quick", 250, "release", until=255, job_id=1, fence=1) + job(3, 1, 260)
    assert told(Rule.WITHIN_CREDIT, begun, quick, stopped, asked, job(4, 1, 360), again, rest)


def test_a_revoke_before_its_job_is_told():
    revoked: list[AnyLine] = [Revoked(at=150, connection="a", job_id=1, fence=1, reason="cancelled")]
    assert told(Rule.REVOKE_AFTER_JOB, enqueue(1), hello(), revoked, job(1, 1, 200), ack(1, 1, 300), stored(1))


def test_a_resume_that_lost_a_job_is_told():
    begun = enqueue(1) + hello() + job(1, 1, 200)
    rest = ack(1, 1, 700) + stored(1)
    assert told(Rule.RESUME_KEEPS, begun, hello("b", at=500, session="a", resumes="a", resumed=True), rest)
    assert told(Rule.RESUME_KEEPS, begun, hello("b", at=500, resumes="a"), rest)
    assert nothing_told(begun, hello("b", at=500, session="a", resumes="a", resumed=True, held=[(1, 1)]), rest)
    assert nothing_told(begun, hello("b", at=2 * SECOND, resumes="a"), rest)


def test_a_resume_that_brings_back_what_was_done_is_told():
    back = hello("b", at=500, session="a", resumes="a", resumed=True, held=[(1, 1)])
    assert told(Rule.RESUME_KEEPS, DONE_ONCE, back, stored(1))


def test_lines_are_read_back_as_they_were_written_but_for_a_torn_end(tmp_path):
    recorder = Recorder(tmp_path / "history")
    for line in [*DONE_ONCE, *stored(1)]:
        recorder.write(line)
    recorder.close()
    with (tmp_path / "history").open("ab") as file:
        file.write(b'{"line":"del')
    assert list(read_history([tmp_path / "history"])) == [*DONE_ONCE, *stored(1)]
