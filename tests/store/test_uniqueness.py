"""Which stored job is a duplicate, and what then happens to it."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from app.domain.job import EnqueueOutcome
from app.domain.json_text import json_document, json_value
from app.domain.query import And, DataEquals, MetadataEquals
from app.domain.status import JobStatus
from app.domain.uniqueness import Replace, ReplaceField, UniquenessCriteria
from tests.builders import DAY, FAILURE, MINUTE, new_job, now, unique
from tests.services import on_both_databases
from tests.store.statuses import bring_to

pytestmark = on_both_databases

AT = 1_800_000_000_000_000
EVERY_STATUS = tuple(JobStatus)
EXISTING, INSERTED, REPLACED = EnqueueOutcome.EXISTING, EnqueueOutcome.INSERTED, EnqueueOutcome.REPLACED


class TestCriteria:
    async def test_jobs_enqueued_without_criteria_are_found(self, service):
        first = await service.enqueue(new_job("mail"))
        second = await service.enqueue(new_job("mail", unique=unique(executor=True)))
        assert (second.id, second.outcome) == (first.id, EXISTING)

    async def test_unique_jobs_are_no_obstacle_to_jobs_without_criteria(self, service):
        await service.enqueue(new_job("mail", unique=unique(executor=True, key="k")))
        assert (await service.enqueue(new_job("mail"))).outcome is INSERTED

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("7", "7", True),
            (7, 7, True),
            ("7", 7, False),
            (7, "7", False),
            ("", "", True),
            ("a", "A", False),
            ("ä", "a\u0308", False),
            (0, "", False),
            (2**63 - 1, 2**63 - 1, True),
            (-(2**63), -(2**63), True),
            (2**63 - 1, 2**63 - 2, False),
            ('"quoted"', '"quoted"', True),
        ],
    )
    async def test_keys_are_compared_with_their_type(self, service, one, other, same):
        first = await service.enqueue(new_job(unique=unique(key=one)))
        second = await service.enqueue(new_job(unique=unique(key=other)))
        assert second.outcome is (EXISTING if same else INSERTED)
        assert (second.id == first.id) == same

    @pytest.mark.parametrize("key", ["7", 7, "", '"', "ä"])
    async def test_job_shows_its_key(self, service, key):
        enqueued = await service.enqueue(new_job(unique=unique(key=key)))
        assert json_value((await service.get_job(enqueued.id)).uniqueness_key) == key

    async def test_keys_are_compared_across_executors_unless_the_executor_counts(self, service):
        first = await service.enqueue(new_job("mail", unique=unique(key="k")))
        assert (await service.enqueue(new_job("video", unique=unique(key="k")))).id == first.id
        assert (await service.enqueue(new_job("video", unique=unique(key="k", executor=True)))).outcome is INSERTED

    async def test_without_a_key_keys_are_not_compared(self, service):
        first = await service.enqueue(new_job(unique=unique(key="k")))
        assert (await service.enqueue(new_job(unique=unique(executor=True)))).id == first.id

    async def test_executor_must_be_the_same(self, service):
        await service.enqueue(new_job("mail"))
        assert (await service.enqueue(new_job("video", unique=unique(executor=True)))).outcome is INSERTED

    @pytest.mark.parametrize("criteria", [{"executor": True}, {"key": "k"}, {}], ids=str)
    @pytest.mark.parametrize(
        ("offset", "same"),
        [
            (0, True),
            (MINUTE, True),
            (-MINUTE, True),
            (MINUTE + 1, False),
            (-MINUTE - 1, False),
        ],
    )
    async def test_window_includes_its_edges(self, service, criteria, offset, same):
        first = await service.enqueue(new_job(scheduled_at=AT, unique=unique(key="k")))
        second = await service.enqueue(new_job(scheduled_at=AT + offset, unique=unique(**criteria, within=MINUTE)))
        assert (second.id == first.id) == same

    async def test_window_of_zero_takes_only_the_same_instant(self, service):
        await service.enqueue(new_job(scheduled_at=AT))
        assert (await service.enqueue(new_job(scheduled_at=AT, unique=unique(within=0)))).outcome is EXISTING
        assert (await service.enqueue(new_job(scheduled_at=AT + 1, unique=unique(within=0)))).outcome is INSERTED

    async def test_widest_window_at_the_end_of_time_is_no_error(self, service):
        last = 7_289_654_399_999_999
        widest = UniquenessCriteria(duration=timedelta(days=36_525))
        await service.enqueue(new_job(scheduled_at=last))
        assert (await service.enqueue(new_job(scheduled_at=last, unique=widest))).outcome is EXISTING
        assert (await service.enqueue(new_job(scheduled_at=0, unique=widest))).outcome is INSERTED

    @pytest.mark.parametrize("criteria", [{"executor": True}, {"key": "k"}, {"within": MINUTE}, {}], ids=str)
    @pytest.mark.parametrize("status", JobStatus)
    async def test_duplicate_is_one_whose_status_is_among_the_given(self, service, status, criteria):
        first = await service.enqueue(new_job(scheduled_at=AT, unique=unique(key="k")))
        await bring_to(service, first.id, status)
        others = tuple(other for other in JobStatus if other is not status)
        missed = await service.enqueue(new_job(scheduled_at=AT, unique=unique(**criteria, statuses=others)))
        assert missed.outcome is INSERTED
        await bring_to(service, missed.id, JobStatus.CANCELLED if status is JobStatus.COMPLETE else JobStatus.COMPLETE)
        found = await service.enqueue(new_job(scheduled_at=AT, unique=unique(**criteria, statuses=(status,))))
        assert (found.outcome, found.id) == (EXISTING, first.id)

    @pytest.mark.parametrize("status", JobStatus)
    async def test_only_scheduled_jobs_are_duplicates_by_default(self, service, status):
        first = await service.enqueue(new_job(scheduled_at=AT))
        await bring_to(service, first.id, status)
        second = await service.enqueue(new_job(scheduled_at=AT, unique=unique(executor=True)))
        assert second.outcome is (EXISTING if status is JobStatus.SCHEDULED else INSERTED)


class TestChoice:
    @pytest.mark.parametrize("criteria", [{"executor": True}, {"key": "k"}, {"statuses": EVERY_STATUS}], ids=str)
    async def test_nearest_of_several_counts(self, service, criteria):
        offsets = [-9, 7, -5, 6, 30]
        ids = [(await service.enqueue(new_job(scheduled_at=AT + off, priority=i))).id for i, off in enumerate(offsets)]
        if "key" in criteria:
            ids = [
                (await service.enqueue(new_job(f"e{off}", scheduled_at=AT + off, unique=unique(key="k", within=0)))).id
                for off in offsets
            ]
        found = await service.enqueue(new_job(scheduled_at=AT, unique=unique(**criteria)))
        assert found.id == ids[2]

    @pytest.mark.parametrize("offsets", [(5, -5, 5), (-5, 5, -5), (5, 5), (-5, -5)])
    async def test_lowest_id_of_equally_near_ones_counts(self, service, offsets):
        ids = [(await service.enqueue(new_job(scheduled_at=AT + offset))).id for offset in offsets]
        found = await service.enqueue(new_job(scheduled_at=AT, unique=unique(executor=True)))
        assert found.id == ids[0]

    async def test_lowest_id_counts_across_statuses_and_executors(self, service):
        ids = [(await service.enqueue(new_job(f"e{number}", scheduled_at=AT))).id for number in range(6)]
        for job_id, status in zip(ids, reversed(JobStatus), strict=True):
            await bring_to(service, job_id, status)
        found = await service.enqueue(new_job(scheduled_at=AT, unique=unique(statuses=EVERY_STATUS, within=0)))
        assert found.id == ids[0]


class TestReplace:
    async def test_do_nothing_changes_nothing(self, service):
        first = await service.enqueue(new_job(priority=2))
        before = await service.get_job(first.id)
        await service.enqueue(new_job(data="other", priority=1, unique=unique(executor=True)))
        assert await service.get_job(first.id) == before

    @pytest.mark.parametrize("field", ReplaceField)
    async def test_only_the_named_field_is_replaced(self, service, field):
        first = await service.enqueue(
            new_job(data=1, metadata=2, priority=3, max_attempts=4, scheduled_at=AT, tags=("old",))
        )
        before = await service.get_job(first.id)
        criteria = unique(executor=True, on_conflict=Replace(frozenset({field})))
        second = await service.enqueue(
            new_job(
                data=10, metadata=20, priority=30, max_attempts=40, scheduled_at=AT + 50, tags=("new",), unique=criteria
            )
        )
        assert (second.id, second.outcome) == (first.id, REPLACED)
        new = {"data": "10", "metadata": "20", "priority": 30, "max_attempts": 40, "scheduled_at": AT + 50}
        after = await service.get_job(first.id)
        assert after == replace(before, version=before.version + 1, **{field.value: new[field.value]})

    async def test_replaced_data_is_what_queries_compare(self, service):
        from_double = Replace(frozenset({ReplaceField.DATA, ReplaceField.METADATA}))
        first = await service.enqueue(new_job(data=1.0, metadata=[2.0]))
        await service.enqueue(new_job(data=7, metadata=[8.0], unique=unique(executor=True, on_conflict=from_double)))

        def finding(data: Any, metadata: Any) -> And:
            return And((DataEquals(json_document(data).compared), MetadataEquals(json_document(metadata).compared)))

        assert [job.id for job in (await service.query(finding(7, [8]))).jobs] == [first.id]
        assert (await service.query(finding(1, [2]))).jobs == []

    async def test_max_attempts_below_the_attempt_are_raised_to_it(self, service):
        first = await service.enqueue(new_job(max_attempts=9))
        for _ in range(3):
            (job,) = await service.claim_jobs("mail")
            await service.mark_job_retryable(job.id, 0, FAILURE, fence=job.fence)
        criteria = unique(
            executor=True,
            statuses=(JobStatus.RETRYABLE,),
            on_conflict=Replace(frozenset({ReplaceField.MAX_ATTEMPTS}), frozenset({JobStatus.RETRYABLE})),
        )
        second = await service.enqueue(new_job(max_attempts=2, unique=criteria))
        assert second.outcome is REPLACED
        assert (await service.get_job(first.id)).max_attempts == 3

    @pytest.mark.parametrize("status", JobStatus)
    async def test_replaces_only_for_the_given_statuses(self, service, status):
        first = await service.enqueue(new_job(priority=5, scheduled_at=AT))
        await bring_to(service, first.id, status)
        before = await service.get_job(first.id)
        fields = frozenset({ReplaceField.PRIORITY})
        others = frozenset(JobStatus) - {status}
        spared = unique(executor=True, statuses=EVERY_STATUS, on_conflict=Replace(fields, others))
        assert (await service.enqueue(new_job(priority=7, unique=spared))).outcome is EXISTING
        assert await service.get_job(first.id) == before
        meant = unique(executor=True, statuses=EVERY_STATUS, on_conflict=Replace(fields, frozenset({status})))
        assert (await service.enqueue(new_job(priority=7, unique=meant))).outcome is REPLACED
        assert await service.get_job(first.id) == replace(before, priority=7, version=before.version + 1)

    async def test_replaced_job_that_is_now_due_is_handed_out(self, service):
        first = await service.enqueue(new_job(scheduled_at=now() + DAY))
        criteria = unique(executor=True, on_conflict=Replace(frozenset({ReplaceField.SCHEDULED_AT})))
        subscription = await service.subscribe_ready_jobs("mail", prefetch=1)
        await service.enqueue(new_job(scheduled_at=now(), unique=criteria))
        assert (await anext(aiter(subscription))).id == first.id
        await subscription.close()
