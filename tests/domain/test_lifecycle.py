"""Which acknowledgement does what to a job in each state: the contract's table, written down here a second time."""

import pytest
from msgspec.structs import asdict

from app.domain.errors import FenceRequired, InvalidTransition, StaleFence
from app.domain.lifecycle import RevokeReason, Settlement, rerun
from tests.domain.job_states import (
    FINISHED,
    LATER,
    LEASE,
    NOW,
    RECORDS_AN_ERROR,
    REFUNDS,
    SETS_A_TIME,
    STATUSES,
    apply,
    assert_no_op,
    assert_refused,
    claim,
    job_in,
)

# A status: what the job becomes. "no-op": 200 with `duplicate`. "409": refused. The jobs have had two claims.
UNFENCED = {
    #           scheduled    retryable    executing    complete   cancelled  discarded
    "complete": ["complete", "complete", "complete", "no-op", "409", "409"],
    "retry": ["retryable", "retryable", "retryable", "409", "409", "409"],
    "discard": ["discarded", "discarded", "discarded", "409", "409", "no-op"],
    "cancel": ["cancelled", "cancelled", "cancelled", "409", "no-op", "409"],
    "snooze": ["retryable", "retryable", "retryable", "409", "409", "409"],
}
UNDER_THIS_FENCE = {
    "complete": "complete",
    "retry": "retryable",
    "discard": "discarded",
    "cancel": "cancelled",
    "snooze": "retryable",
    "release": "retryable",
}

cells = [(operation, status, row[i]) for operation, row in UNFENCED.items() for i, status in enumerate(STATUSES)]


class TestUnfenced:
    @pytest.mark.parametrize(("operation", "status", "outcome"), cells)
    def test_acknowledgement_follows_the_table(self, operation, status, outcome):
        state = job_in(status)
        if outcome == "409":
            assert_refused(state, InvalidTransition, operation)
        elif outcome == "no-op":
            assert_no_op(state, operation)
        else:
            ack = apply(state, operation)
            assert (ack.id, ack.status, ack.duplicate) == (7, outcome, False)
            assert state.status == outcome

    @pytest.mark.parametrize(
        ("operation", "status", "outcome"), [cell for cell in cells if cell[2] not in {"409", "no-op"}]
    )
    def test_applied_acknowledgement_changes_only_what_it_says(self, operation, status, outcome):
        before, state = asdict(job_in(status)), job_in(status)
        apply(state, operation)
        held = status == "executing"
        expected = before | {
            "status": outcome,
            "version": before["version"] + 1,
            "fence": before["fence"] + held,
            "lease_id": None,
            "finished_at": NOW if outcome in FINISHED else None,
            "scheduled_at": LATER if operation in SETS_A_TIME else before["scheduled_at"],
            "attempt": before["attempt"] - (operation in REFUNDS),
            "refunded": operation in REFUNDS,
            "error_count": before["error_count"] + (operation in RECORDS_AN_ERROR),
        }
        found = asdict(state)
        assert {name: found[name] for name in expected if name not in {"new_errors", "settlement"}} == {
            name: value for name, value in expected.items() if name not in {"new_errors", "settlement"}
        }
        assert len(state.new_errors) == (operation in RECORDS_AN_ERROR)
        assert (state.settlement is not None) == held

    @pytest.mark.parametrize("operation", UNFENCED)
    def test_acknowledgement_takes_an_executing_job_from_its_worker(self, operation):
        state = job_in("executing")
        apply(state, operation)
        reason = RevokeReason.CANCELLED if operation == "cancel" else RevokeReason.ACKNOWLEDGED
        assert state.settlement == Settlement(LEASE, 7, 2, reason), "the fence in it is the one that the worker holds"
        assert state.fence == 3
        assert_refused(state, StaleFence, operation, fence=2)
        assert_refused(state, StaleFence, operation, fence=3)

    @pytest.mark.parametrize("status", ["scheduled", "retryable"])
    @pytest.mark.parametrize("operation", UNFENCED)
    def test_acknowledgement_of_a_waiting_job_settles_nothing(self, operation, status):
        state = job_in(status)
        apply(state, operation)
        assert state.settlement is None
        assert state.fence == 2

    def test_acknowledgement_works_on_a_job_that_was_never_claimed(self):
        for operation in UNFENCED:
            state = job_in("scheduled", attempt=0, fence=0)
            apply(state, operation)
            assert state.attempt == 0

    def test_acknowledgement_is_not_remembered_as_a_fenced_one(self):
        state = job_in("executing", acknowledged_fence=1, acknowledged_operation="snooze")
        apply(state, "complete")
        assert (state.acknowledged_fence, state.acknowledged_operation) == (1, "snooze")
        assert_no_op(state, "snooze", fence=1)


class TestFenced:
    @pytest.mark.parametrize(("operation", "outcome"), UNDER_THIS_FENCE.items())
    def test_acknowledgement_under_the_fence_of_the_claim_is_applied(self, operation, outcome):
        state = job_in("executing")
        before = asdict(state)
        ack = apply(state, operation, fence=2)
        assert (ack.id, ack.status, ack.duplicate) == (7, outcome, False)
        expected = {
            "status": outcome,
            "version": before["version"] + 1,
            "fence": 2,
            "lease_id": None,
            "finished_at": NOW if outcome in FINISHED else None,
            "scheduled_at": LATER if operation in SETS_A_TIME else before["scheduled_at"],
            "attempt": 2 - (operation in REFUNDS),
            "refunded": operation in REFUNDS,
            "error_count": 4 + (operation in RECORDS_AN_ERROR),
            "acknowledged_fence": 2,
            "acknowledged_operation": operation,
        }
        assert {name: asdict(state)[name] for name in expected} == expected

    @pytest.mark.parametrize("operation", UNDER_THIS_FENCE)
    def test_acknowledgement_frees_the_credit_without_a_revoke(self, operation):
        state = job_in("executing")
        apply(state, operation, fence=2)
        assert state.settlement == Settlement(LEASE, 7, 2, None)

    @pytest.mark.parametrize("fence", [0, 1, 3, 2**63 - 1])
    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.parametrize("operation", UNDER_THIS_FENCE)
    def test_acknowledgement_under_another_fence_is_stale_in_every_status(self, operation, status, fence):
        assert_refused(job_in(status), StaleFence, operation, fence=fence)

    @pytest.mark.parametrize("status", [status for status in STATUSES if status != "executing"])
    @pytest.mark.parametrize("operation", UNDER_THIS_FENCE)
    def test_acknowledgement_is_stale_when_the_job_no_longer_executes(self, operation, status):
        assert_refused(job_in(status), StaleFence, operation, fence=2)

    @pytest.mark.parametrize("operation", UNDER_THIS_FENCE)
    def test_repeated_acknowledgement_is_a_no_op(self, operation):
        state = job_in("executing")
        apply(state, operation, fence=2)
        assert_no_op(state, operation, fence=2)
        assert_no_op(state, operation, fence=2)

    @pytest.mark.parametrize("operation", ["retry", "snooze", "release"])
    def test_repeat_is_a_no_op_also_after_the_next_claim(self, operation):
        state = job_in("executing")
        apply(state, operation, fence=2)
        claim(state)
        assert_no_op(state, operation, fence=2)

    @pytest.mark.parametrize("operation", UNDER_THIS_FENCE)
    def test_repeat_is_a_no_op_also_after_a_rerun_and_the_next_claim(self, operation):
        state = job_in("executing")
        apply(state, operation, fence=2)
        rerun(state, NOW, force=False)
        assert_no_op(state, operation, fence=2)
        claim(state)
        assert_no_op(state, operation, fence=2)

    @pytest.mark.parametrize("other", UNDER_THIS_FENCE)
    @pytest.mark.parametrize("operation", UNDER_THIS_FENCE)
    def test_another_operation_under_a_used_fence_is_stale(self, operation, other):
        state = job_in("executing")
        apply(state, operation, fence=2)
        if other != operation:
            assert_refused(state, StaleFence, other, fence=2)

    def test_only_the_last_fenced_acknowledgement_is_remembered(self):
        state = job_in("executing")
        apply(state, "snooze", fence=2)
        claim(state)
        apply(state, "snooze", fence=3)
        assert_no_op(state, "snooze", fence=3)
        assert_refused(state, StaleFence, "snooze", fence=2)

    @pytest.mark.parametrize("operation", UNFENCED)
    def test_fence_zero_of_a_job_never_claimed_is_stale(self, operation):
        assert_refused(job_in("scheduled", attempt=0, fence=0), StaleFence, operation, fence=0)

    @pytest.mark.parametrize("operation", ["complete", "discard", "cancel"])
    def test_refusal_of_a_finished_job_is_stale_fence_even_where_unfenced_would_be_a_no_op(self, operation):
        status = UNDER_THIS_FENCE[operation]
        assert_refused(job_in(status), StaleFence, operation, fence=2)
        assert_no_op(job_in(status), operation)


class TestRequireFence:
    @pytest.mark.parametrize("operation", ["complete", "retry", "discard", "snooze"])
    def test_unfenced_acknowledgement_of_an_executing_job_is_refused(self, operation):
        assert_refused(job_in("executing"), FenceRequired, operation, require_fence=True)

    @pytest.mark.parametrize("operation", UNDER_THIS_FENCE)
    def test_fenced_acknowledgement_is_taken(self, operation):
        assert apply(job_in("executing"), operation, fence=2, require_fence=True).status == UNDER_THIS_FENCE[operation]

    def test_operator_may_still_cancel(self):
        assert apply(job_in("executing"), "cancel", require_fence=True).status == "cancelled"

    @pytest.mark.parametrize(("operation", "status", "outcome"), [cell for cell in cells if cell[1] != "executing"])
    def test_jobs_that_nobody_executes_are_not_concerned(self, operation, status, outcome):
        state = job_in(status)
        if outcome == "409":
            assert_refused(state, InvalidTransition, operation, require_fence=True)
        elif outcome == "no-op":
            assert_no_op(state, operation, require_fence=True)
        else:
            assert apply(state, operation, require_fence=True).status == outcome
