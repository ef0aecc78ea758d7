"""What ``/metrics`` tells is what happened, under labels that stay few; it comes also when the database fails."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import event

from app.backend.sql import SqlBackend
from app.main import create_app
from app.observability.metrics import METRICS, Kind
from tests.api.wire import FAILURE, claim, enqueue, problem
from tests.metrics import Page, scrape
from tests.services import in_a_task_of_its_own, new_settings

MANY = 300
LABELLED = 200
PATIENCE_SECONDS = 20


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, SqlBackend]]:
    """A client of a running service, and the service."""
    app = create_app(new_settings(folder, **settings))
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service")
    async with in_a_task_of_its_own(app.router.lifespan_context(app)), client:
        yield client, app.state.service


async def acknowledge(api: httpx2.AsyncClient, job: dict[str, Any], operation: str, **members: Any) -> int:
    answer = await api.post(f"/v1/jobs/{job['id']}/{operation}", json={"fence": job["fence"]} | members)
    return answer.status_code


async def test_each_metric_of_the_table_is_on_the_page(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    page = await scrape(api)
    shown = {name for name, _ in page.values}
    for metric in METRICS:
        # Gauges of connections have a series for each connection only.
        if metric.name not in {"rexecutor_connections", "rexecutor_credits", "rexecutor_held_jobs"}:
            assert (f"{metric.name}_count" if metric.kind is Kind.HISTOGRAM else metric.name) in shown, metric.name


async def test_counters_tell_what_happened_to_the_jobs(api: httpx2.AsyncClient) -> None:
    unique = {"uniqueness_criteria": {"key": "k", "executor": True}}
    replacing = {"uniqueness_criteria": {"key": "k", "executor": True, "on_conflict": {"replace": ["priority"]}}}
    await enqueue(api)
    await api.post("/v1/jobs/bulk", json={"jobs": [{"executor": "mail"}, {"executor": "mail"}, {"executor": "sms"}]})
    await enqueue(api, "report", delay=3600, **unique)
    for criteria in (unique, unique, replacing):
        assert (await api.post("/v1/jobs", json={"executor": "report", "delay": 60, **criteria})).status_code == 200
    first, second, third = [await claim(api) for _ in range(3)]
    assert await acknowledge(api, first, "complete") == 200
    assert await acknowledge(api, first, "complete") == 200
    assert await acknowledge(api, first, "discard", error=FAILURE) == 409
    assert await acknowledge(api, second, "retry", delay=0, error=FAILURE) == 200
    assert await acknowledge(api, third, "release") == 200
    again = await claim(api)
    assert await acknowledge(api, again, "discard", error=FAILURE) == 200
    assert (await api.post("/v1/jobs/999/complete")).status_code == 404

    page = await scrape(api)
    assert page.by("outcome", "jobs_enqueued_total", executor="mail") == {"inserted": 3}
    assert page.by("outcome", "jobs_enqueued_total", executor="sms") == {"inserted": 1}
    assert page.by("outcome", "jobs_enqueued_total", executor="report") == {"inserted": 1, "existing": 2, "replaced": 1}
    assert page.by("executor", "jobs_claimed_total") == {"mail": 4}
    assert page.by("operation", "jobs_acknowledged_total", outcome="ok") == dict.fromkeys(
        ("complete", "retry", "release", "discard"), 1
    )
    assert page.by("operation", "jobs_acknowledged_total", outcome="duplicate") == {"complete": 1}
    assert page.by("operation", "jobs_acknowledged_total", outcome="refused") == {"discard": 1, "complete": 1}
    assert page.by("status", "jobs", executor="mail") == {"complete": 1, "discarded": 1, "retryable": 1}
    assert page.by("status", "jobs", executor="report") == {"scheduled": 1}
    assert page.value("jobs", executor="report", status="executing") == 0
    assert page.value("database_up") == 1


async def test_answer_given_again_is_no_second_enqueue(api: httpx2.AsyncClient) -> None:
    for replayed in (None, "true"):
        answer = await api.post("/v1/jobs", json={"executor": "mail"}, headers={"idempotency-key": "k"})
        assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (201, replayed)
    assert (await scrape(api)).by("outcome", "jobs_enqueued_total", executor="mail") == {"inserted": 1}


async def test_what_has_not_happened_yet_is_zero(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    page = await scrape(api)
    assert page.value("jobs_lost_total", executor="mail") == 0
    assert page.value("jobs_enqueued_total", executor="mail", outcome="replaced") == 0
    assert page.value("jobs_acknowledged_total", operation="cancel", outcome="refused") == 0


async def test_oldest_ready_job_is_the_one_that_waits_longest(api: httpx2.AsyncClient) -> None:
    await enqueue(api, priority=9, scheduled_at=hour_ago())
    await enqueue(api, priority=1)
    await enqueue(api, "later", delay=3_600)
    page = await scrape(api)
    assert page.by("executor", "oldest_ready_seconds").keys() == {"mail"}
    assert 3_600 <= page.by("executor", "oldest_ready_seconds")["mail"] < 3_700


async def test_pickup_is_of_jobs_due_at_once_lateness_of_all_others(api: httpx2.AsyncClient) -> None:
    await enqueue(api, scheduled_at=hour_ago())
    job = await claim(api)
    page = await scrape(api)
    assert (page.value("pickup_seconds_count"), page.value("lateness_seconds_count")) == (1, 0)
    assert 0 < (page.value("pickup_seconds_sum") or 0) < 60

    assert await acknowledge(api, job, "release") == 200
    await claim(api)
    await enqueue(api, "later", delay=0.01)
    await claim(api, "later", wait=10)
    page = await scrape(api)
    assert (page.value("pickup_seconds_count"), page.value("lateness_seconds_count")) == (1, 2)
    assert 3_600 < (page.value("lateness_seconds_sum") or 0) < 3_800
    assert page.value("lateness_seconds_bucket", le="3600.0") == 1
    assert page.value("lateness_seconds_bucket", le="+Inf") == 2


async def test_commits_tell_their_size_and_how_long_they_took(api: httpx2.AsyncClient) -> None:
    before = await scrape(api)
    await api.post("/v1/jobs/bulk", json={"jobs": [{"executor": "mail"}] * 300})
    await enqueue(api)
    page = await scrape(api)

    def grown(name: str, **labels: str) -> float:
        return (page.value(name, **labels) or 0) - (before.value(name, **labels) or 0)

    assert (grown("commit_writes_count"), grown("commit_writes_sum")) == (2, 301)
    assert (grown("commit_writes_bucket", le="1.0"), grown("commit_writes_bucket", le="256.0")) == (1, 1)
    assert grown("commit_writes_bucket", le="1024.0") == 2
    assert grown("commit_seconds_count") == 2
    assert 0 < grown("commit_seconds_sum") < 60


async def test_rolled_back_write_is_not_counted_its_neighbours_are(tmp_path: Path) -> None:
    async with running(tmp_path, max_payload_bytes=1_024) as (api, service):
        criteria = {"key": "k", "on_conflict": {"replace": ["metadata"]}}
        await enqueue(api, "report", data="d" * 600, delay=60, uniqueness_criteria=criteria)
        too_large = {"executor": "report", "metadata": "m" * 600, "uniqueness_criteria": criteria}
        bulk = {"jobs": [{"executor": "undone"}, {"executor": "undone"}, too_large]}
        before = await scrape(api)
        # While another connection writes, the first of these waits, and the others come together behind it.
        with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            first = asyncio.create_task(enqueue(api))
            await asyncio.sleep(0.1)  # the writer takes the first, and waits with it
            others = [asyncio.create_task(enqueue(api)) for _ in range(5)]
            failing = asyncio.create_task(api.post("/v1/jobs/bulk", json=bulk))
            others += [asyncio.create_task(enqueue(api)) for _ in range(5)]
            while service._dialect._commit._waiting.qsize() < 11:
                await asyncio.sleep(0.001)
            database.execute("ROLLBACK")
        await asyncio.gather(first, *others)
        assert problem(await failing) == (422, "validation-error")
        page = await scrape(api)
    assert page.by("executor", "jobs_enqueued_total", outcome="inserted") == {"report": 1, "mail": 11}
    assert page.by("executor", "jobs_enqueued_total", outcome="replaced") == {}
    assert (page.value("commit_seconds_count") or 0) - (before.value("commit_seconds_count") or 0) == 2


async def test_lost_jobs_are_told_from_those_put_back(tmp_path: Path) -> None:
    async with running(tmp_path, lease_seconds=0.5) as (api, _):
        await enqueue(api, max_attempts=1)
        await enqueue(api, max_attempts=2)
        for _ in range(2):
            await claim(api)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await scrape(api)).value("jobs_lost_total", executor="mail") != 2:
                await asyncio.sleep(0.05)
        page = await scrape(api)
    assert page.value("jobs_rescued_total", executor="mail") == 1
    assert page.by("status", "jobs", executor="mail") == {"discarded": 1, "retryable": 1}


async def test_requests_are_told_by_operation_never_by_path(api: httpx2.AsyncClient) -> None:
    job_id = await enqueue(api)
    assert (await api.get(f"/v1/jobs/{job_id}")).status_code == 200
    assert (await api.head(f"/v1/jobs/{job_id}")).status_code == 200
    assert (await api.get("/v1/jobs/4711")).status_code == 404
    assert (await api.get("/secret/4711")).status_code == 404
    assert (await api.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"})).status_code == 400
    page = await scrape(api)
    assert page.by("status", "http_requests_total", operation="get_job") == {"200": 2, "404": 1}
    assert page.by("status", "http_requests_total", operation="enqueue") == {"201": 1, "400": 1}
    assert page.by("status", "http_requests_total", operation="other") == {"404": 1}
    assert page.value("http_request_seconds_count", operation="get_job") == 3
    assert 0 < (page.value("http_request_seconds_sum", operation="get_job") or 0) < 60
    assert not [label for _, labels in page.values for label in labels if "4711" in label[1]]
    assert (await scrape(api)).value("http_requests_total", operation="get_metrics", status="200") == 1


async def test_more_executors_than_labels_are_other_and_none_is_left_out(api: httpx2.AsyncClient) -> None:
    names = [f"executor-{number:03}" for number in range(MANY)]
    await api.post("/v1/jobs/bulk", json={"jobs": [{"executor": name} for name in names]})
    for name in (names[0], names[-1], names[-2]):
        await claim(api, name)
    page = await scrape(api)
    assert_bounded(page)
    assert page.value("jobs", executor="other", status="scheduled") == MANY - LABELLED - 2
    assert page.value("jobs", executor="other", status="executing") == 2
    assert page.value("jobs_claimed_total", executor="other") == 2
    assert page.value("jobs_claimed_total", executor=names[0]) == 1
    assert len(page.by("executor", "oldest_ready_seconds")) == LABELLED


async def test_executors_found_in_the_database_have_bounded_labels_too(tmp_path: Path) -> None:
    names = [f"executor-{number:03}" for number in range(MANY)]
    async with running(tmp_path) as (api, _):
        await api.post("/v1/jobs/bulk", json={"jobs": [{"executor": name} for name in names]})
    async with running(tmp_path) as (api, _):
        await enqueue(api, "zebra")
        page = await scrape(api)
        assert_bounded(page, jobs=MANY + 1)
        assert page.value("jobs", executor="zebra", status="scheduled") == 1
        await enqueue(api, "yak")
        later = await scrape(api)
    # A label once given is kept: no counter jumps from one series to another.
    assert set(page.labels("executor")) == set(later.labels("executor"))
    assert later.value("jobs_enqueued_total", executor="other", outcome="inserted") == 1


async def test_executor_called_other_shares_the_label_of_the_others(api: httpx2.AsyncClient) -> None:
    names = ["other", *(f"executor-{number:03}" for number in range(MANY))]
    await api.post("/v1/jobs/bulk", json={"jobs": [{"executor": name, "scheduled_at": hour_ago()} for name in names]})
    page = await scrape(api)
    assert page.value("jobs", executor="other", status="scheduled") == MANY + 1 - (LABELLED - 1)
    assert 3_600 <= (page.value("oldest_ready_seconds", executor="other") or 0) < 3_700


def hour_ago() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3_600))


def assert_bounded(page: Page, *, jobs: int = MANY) -> None:
    executors = set(page.labels("executor"))
    assert len(executors) == LABELLED + 1
    assert "other" in executors
    stored = [value for (name, _), value in page.values.items() if name == "rexecutor_jobs"]
    assert sum(stored) == jobs


async def test_failing_database_leaves_the_other_metrics(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, _):
        await enqueue(api)
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
            database.execute("ALTER TABLE executor_counts RENAME TO gone")
        page = await scrape(api)
        assert page.value("database_up") == 0
        assert page.by("executor", "jobs") == {}
        assert page.value("jobs_enqueued_total", executor="mail", outcome="inserted") == 1
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
            database.execute("ALTER TABLE gone RENAME TO executor_counts")
        page = await scrape(api)
        assert (page.value("database_up"), page.value("jobs", executor="mail", status="scheduled")) == (1, 1)


async def test_scrapes_take_one_reader_however_many_come(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, service):
        pool = service._dialect._lookups.pool
        taken: list[int] = []
        event.listen(pool, "checkout", lambda *_: taken.append(pool.checkedout()))
        pages = await asyncio.gather(*(scrape(api) for _ in range(5)))
        assert [page.value("database_up") for page in pages] == [1] * 5
        assert taken == [1] * 5


async def test_scrape_does_not_wait_long_for_a_reader(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, service), AsyncExitStack() as readers:
        for _ in range(2):
            await readers.enter_async_context(service._dialect.reading())
        async with asyncio.timeout(PATIENCE_SECONDS):
            page, _ = await asyncio.gather(scrape(api), enqueue(api))
        assert page.value("database_up") == 0
        assert (await scrape(api)).value("jobs_enqueued_total", executor="mail", outcome="inserted") == 1


async def test_draining_server_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, service):
        assert (await scrape(api)).value("draining") == 0
        assert (await api.get("/readyz")).status_code == 200
        await service.drain(0)
        answer = await api.get("/readyz")
        assert problem(answer) == (503, "not-ready")
        assert "draining" in answer.json()["detail"]
        assert (await api.get("/livez")).status_code == 200
        assert (await scrape(api)).value("draining") == 1
