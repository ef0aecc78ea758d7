"""What operations leave behind in a job: attempts, errors, times, and what rerun, loss and update do."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from app.domain.errors import InvalidTransition, JobExecuting, StaleFence, VersionMismatch
from app.domain.instant import MAX_INSTANT
from app.domain.job import ExecutionError, JobChanges
from app.domain.lifecycle import Acknowledgement, Operation, RevokeReason, Settlement, acknowledge, lose, rerun, update
from app.domain.status import JobStatus
from tests.domain.job_states import (
    FAILURE,
    FENCED_OPERATIONS,
    FINISHED,
    LATER,
    LEASE,
    NOW,
    RECORDS_AN_ERROR,
    REFUNDS,
    SETS_A_TIME,
    STATUSES,
    UNFENCED_OPERATIONS,
    apply,
    assert_refused,
    claim,
    job_in,
)

RERUN = {
    "scheduled": "retryable",
    "retryable": "retryable",
    "executing": "409",
    "complete": "retryable",
    "cancelled": "retryable",
    "discarded": "retryable",
}


class TestRefund:
    @pytest.mark.parametrize(
        ("attempt", "after", "status"),
        [(0, 0, "scheduled"), (1, 0, "scheduled"), (2, 1, "retryable"), (65_535, 65_534, "retryable")],
    )
    def test_snooze_gives_the_attempt_back(self, attempt, after, status):
        for before in ("scheduled", "retryable", "executing"):
            state = job_in(before, attempt=attempt)
            assert apply(state, "snooze").status == status
            assert state.attempt == after
            assert state.scheduled_at == LATER

    @pytest.mark.parametrize(("attempt", "after", "status"), [(1, 0, "scheduled"), (2, 1, "retryable")])
    def test_release_gives_the_attempt_back_and_keeps_the_time_to_run(self, attempt, after, status):
        state = job_in("executing", attempt=attempt)
        scheduled_at = state.scheduled_at
        assert apply(state, "release", fence=2).status == status
        assert (state.attempt, state.scheduled_at, state.fence) == (after, scheduled_at, 2)

    @pytest.mark.parametrize("first", ["snooze", "release"])
    def test_claim_is_refunded_once(self, first):
        state = job_in("executing", attempt=3)
        apply(state, first, fence=2)
        assert state.attempt == 2
        assert apply(state, "snooze").status == "retryable"
        assert state.attempt == 2

    def test_second_snooze_of_a_refunded_first_claim_leaves_it_scheduled(self):
        state = job_in("executing", attempt=1)
        apply(state, "snooze", fence=2)
        assert apply(state, "snooze").status == "scheduled"
        assert state.attempt == 0

    def test_next_claim_can_be_refunded_again(self):
        state = job_in("executing", attempt=1)
        for fence in (2, 3, 4):
            apply(state, "release", fence=fence)
            assert state.attempt == 0
            claim(state)

    def test_snooze_after_a_retry_takes_back_the_attempt_that_failed(self):
        state = job_in("executing", attempt=2)
        apply(state, "retry", fence=2)
        apply(state, "snooze")
        assert state.attempt == 1


class TestErrors:
    @pytest.mark.parametrize("operation", sorted(RECORDS_AN_ERROR))
    @pytest.mark.parametrize("fence", [None, 2])
    def test_error_is_recorded_with_the_attempt_of_the_job(self, operation, fence):
        state = job_in("executing", attempt=2)
        apply(state, operation, fence=fence)
        (error,) = state.new_errors
        assert (error.attempt, error.error_type, error.details, error.recorded_at) == (2, "custom", "it broke", NOW)
        assert state.error_count == 5

    def test_recorded_error_is_made_storable(self):
        state = job_in("executing")
        shouting = Acknowledgement(
            operation=Operation.DISCARD, job_id=7, fence=2, error=ExecutionError("t\0" * 100, "m\0" + "x" * 100_000)
        )
        acknowledge(state, shouting, NOW, require_fence=False)
        (error,) = state.new_errors
        assert error.error_type == "t\ufffd" * 64
        assert error.details.startswith("m\ufffdx")
        assert len(error.details.encode()) <= 64 * 1024

    def test_retry_does_not_look_at_max_attempts(self):
        assert apply(job_in("executing", attempt=5, max_attempts=5), "retry", fence=2).status == "retryable"
        assert apply(job_in("retryable", attempt=9, max_attempts=5), "retry").status == "retryable"


class TestTimeToRun:
    @pytest.mark.parametrize("operation", sorted(SETS_A_TIME))
    def test_delay_counts_from_now(self, operation):
        state = job_in("executing")
        delayed = Acknowledgement(
            operation=Operation(operation), job_id=7, fence=2, run_at=timedelta(seconds=90), error=FAILURE
        )
        acknowledge(state, delayed, NOW, require_fence=False)
        assert state.scheduled_at == NOW + 90_000_000

    @pytest.mark.parametrize("run_at", [MAX_INSTANT + 1, 2**62, timedelta(days=36_525) * 2])
    @pytest.mark.parametrize("operation", sorted(SETS_A_TIME))
    def test_time_beyond_2200_is_2200(self, operation, run_at):
        state = job_in("executing")
        far = Acknowledgement(operation=Operation(operation), job_id=7, fence=2, run_at=run_at, error=FAILURE)
        acknowledge(state, far, NOW, require_fence=False)
        assert state.scheduled_at == MAX_INSTANT


class TestRerun:
    @pytest.mark.parametrize(("status", "outcome"), RERUN.items())
    def test_rerun_follows_the_table(self, status, outcome):
        state = job_in(status)
        before = asdict(state)
        if outcome == "409":
            with pytest.raises(JobExecuting) as refused:
                rerun(state, NOW, force=False)
            assert (refused.value.job_id, refused.value.current_status) == (7, "executing")
            assert asdict(state) == before
            return
        ack = rerun(state, NOW, force=False)
        assert (ack.status, ack.duplicate) == (outcome, False)
        assert asdict(state) == before | {
            "status": outcome,
            "scheduled_at": NOW,
            "max_attempts": 6,
            "finished_at": None,
            "version": before["version"] + 1,
        }

    @pytest.mark.parametrize("status", [status for status in STATUSES if status != "executing"])
    def test_force_makes_no_difference_where_nobody_executes(self, status):
        gently, forced = job_in(status), job_in(status)
        rerun(gently, NOW, force=False)
        rerun(forced, NOW, force=True)
        assert asdict(gently) == asdict(forced)

    @pytest.mark.parametrize(
        ("attempt", "outcome"), [(0, "scheduled"), (1, "scheduled"), (2, "retryable"), (9, "retryable")]
    )
    @pytest.mark.parametrize("status", STATUSES)
    def test_job_on_its_first_attempt_becomes_scheduled_again(self, status, attempt, outcome):
        state = job_in(status, attempt=attempt)
        assert rerun(state, NOW, force=True).status == outcome
        assert state.attempt == attempt

    def test_force_takes_the_job_from_its_worker(self):
        state = job_in("executing")
        assert rerun(state, NOW, force=True).status == "retryable"
        assert (state.fence, state.lease_id, state.version) == (3, None, 10)
        assert state.settlement == Settlement(LEASE, 7, 2, RevokeReason.RERUN)
        assert_refused(state, StaleFence, "complete", fence=2)

    def test_max_attempts_rise_to_65535_at_most(self):
        state = job_in("discarded", max_attempts=65_535)
        rerun(state, NOW, force=False)
        assert state.max_attempts == 65_535

    def test_errors_are_kept_and_none_is_added(self):
        state = job_in("discarded")
        rerun(state, NOW, force=False)
        assert (state.error_count, state.new_errors) == (4, [])


class TestLost:
    @pytest.mark.parametrize(("attempt", "max_attempts"), [(1, 2), (4, 5), (2, 65_535)])
    def test_job_with_attempts_left_is_due_at_once(self, attempt, max_attempts):
        state = job_in("executing", attempt=attempt, max_attempts=max_attempts)
        lose(state, NOW)
        assert (state.status, state.scheduled_at, state.finished_at) == ("retryable", NOW, None)
        assert state.attempt == attempt

    @pytest.mark.parametrize(("attempt", "max_attempts"), [(1, 1), (5, 5), (6, 5)])
    def test_job_without_an_attempt_left_is_discarded(self, attempt, max_attempts):
        state = job_in("executing", attempt=attempt, max_attempts=max_attempts)
        lose(state, NOW)
        assert (state.status, state.finished_at) == ("discarded", NOW)

    @pytest.mark.parametrize("max_attempts", [2, 5])
    def test_error_is_recorded_and_the_worker_told(self, max_attempts):
        state = job_in("executing", max_attempts=max_attempts)
        lose(state, NOW)
        (error,) = state.new_errors
        assert (error.attempt, error.error_type, error.recorded_at) == (2, "lost", NOW)
        assert state.settlement == Settlement(LEASE, 7, 2, RevokeReason.LOST)
        assert (state.fence, state.version, state.lease_id, state.error_count) == (3, 10, None, 5)

    @pytest.mark.parametrize("operation", FENCED_OPERATIONS)
    def test_vanished_worker_that_comes_back_is_refused(self, operation):
        state = job_in("executing")
        lose(state, NOW)
        assert_refused(state, StaleFence, operation, fence=2)
        claim(state)
        assert_refused(state, StaleFence, operation, fence=2)


class TestUpdate:
    @pytest.mark.parametrize("status", STATUSES)
    def test_job_is_updated_in_every_status_and_stays_where_it_is(self, status):
        state = job_in(status)
        before = asdict(state)
        changes = JobChanges(max_attempts=9, priority=1, scheduled_at=LATER)
        assert update(state, changes, NOW, if_match=None)
        assert asdict(state) == before | {
            "max_attempts": 9,
            "priority": 1,
            "scheduled_at": LATER,
            "version": before["version"] + 1,
        }

    def test_what_is_not_given_stays(self):
        for changes in (JobChanges(tags=("a",)), JobChanges(data=None, metadata=None, tags=())):
            state = job_in("scheduled")
            before = asdict(state)
            assert update(state, changes, NOW, if_match=None)
            assert asdict(state) == before | {"version": before["version"] + 1}

    @pytest.mark.parametrize(("given", "stands"), [(1, 2), (2, 2), (3, 3)])
    def test_max_attempts_below_the_attempt_is_raised_to_it(self, given, stands):
        state = job_in("retryable", attempt=2)
        update(state, JobChanges(max_attempts=given), NOW, if_match=None)
        assert state.max_attempts == stands

    def test_delay_counts_from_now(self):
        state = job_in("scheduled")
        update(state, JobChanges(scheduled_at=timedelta(minutes=2)), NOW, if_match=None)
        assert state.scheduled_at == NOW + 120_000_000

    def test_empty_update_changes_nothing(self):
        state = job_in("scheduled")
        before = asdict(state)
        assert not update(state, JobChanges(), NOW, if_match=None)
        assert asdict(state) == before

    @pytest.mark.parametrize("versions", [frozenset({9}), frozenset({1, 9, 12})])
    def test_update_with_the_version_that_stands_is_made(self, versions):
        assert update(job_in("scheduled"), JobChanges(priority=1), NOW, if_match=versions)

    @pytest.mark.parametrize("versions", [frozenset(), frozenset({8}), frozenset({10, 11})])
    @pytest.mark.parametrize("changes", [JobChanges(priority=1), JobChanges()])
    def test_update_with_another_version_is_refused(self, versions, changes):
        state = job_in("scheduled")
        before = asdict(state)
        with pytest.raises(VersionMismatch) as refused:
            update(state, changes, NOW, if_match=versions)
        assert (refused.value.job_id, refused.value.version) == (7, 9)
        assert asdict(state) == before


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(FENCED_OPERATIONS), st.integers(0, 4)),
            st.tuples(st.sampled_from(UNFENCED_OPERATIONS), st.none()),
            st.tuples(st.sampled_from(["claim", "lose", "rerun", "force", "update"]), st.none()),
        ),
        max_size=30,
    )
)
def test_whatever_happens_to_a_job_its_promises_hold(steps):
    state = job_in("scheduled", attempt=0, fence=0, version=1, error_count=0, max_attempts=3)
    claims = refunds = 0
    refundable = False
    for step, fences_ago in steps:
        before = asdict(state)
        duplicate = False
        try:
            if step == "claim":
                if not state.is_ready:
                    continue
                claim(state)
                claims, refundable = claims + 1, True
            elif step == "lose":
                if state.status is not JobStatus.EXECUTING:
                    continue
                lose(state, NOW)
            elif step in {"rerun", "force"}:
                rerun(state, NOW, force=step == "force")
            elif step == "update":
                update(state, JobChanges(max_attempts=1), NOW, if_match=None)
            else:
                fence = None if fences_ago is None else state.fence - fences_ago
                duplicate = apply(state, step, fence=fence).duplicate
                if step in REFUNDS and not duplicate and refundable:
                    refunds, refundable = refunds + 1, False
        except (StaleFence, InvalidTransition, JobExecuting):
            assert asdict(state) == before
            continue
        if duplicate:
            assert asdict(state) == before
            continue
        assert state.version == before["version"] + 1
        assert state.fence >= before["fence"]
        assert state.attempt == claims - refunds
        assert state.error_count == len(state.new_errors)
        executing = state.status is JobStatus.EXECUTING
        assert executing == (state.lease_id is not None)
        assert (state.finished_at is not None) == (state.status in FINISHED)
        was_held = before["status"] == "executing"
        handed_out = step == "claim"
        taken_away = was_held and not executing and fences_ago is None
        assert state.fence - before["fence"] == handed_out + taken_away
