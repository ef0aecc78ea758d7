"""Jobs over HTTP: brought, looked at, changed, found and deleted."""

from typing import Any

import httpx2
import pytest

from tests.api.wire import FAILURE, claim, enqueue, get, pointers, problem


async def test_an_enqueued_job_is_201_with_its_location(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/v1/jobs", json={"executor": "mail"})
    assert (answer.status_code, answer.json()) == (201, {"id": 1, "outcome": "inserted"})
    assert answer.headers["location"] == "/v1/jobs/1"
    assert answer.headers["content-type"] == "application/json"
    assert (await api.get(answer.headers["location"])).status_code == 200


async def test_a_duplicate_is_200_with_the_location_of_the_job_that_stands(api: httpx2.AsyncClient) -> None:
    unique = {"executor": "mail", "uniqueness_criteria": {"key": "k"}}
    await api.post("/v1/jobs", json=unique)
    answer = await api.post("/v1/jobs", json=unique)
    assert (answer.status_code, answer.json()) == (200, {"id": 1, "outcome": "existing"})
    assert answer.headers["location"] == "/v1/jobs/1"


async def test_a_duplicate_may_replace(api: httpx2.AsyncClient) -> None:
    criteria = {"key": 7, "on_conflict": {"replace": ["data"]}}
    await api.post("/v1/jobs", json={"executor": "mail", "data": 1, "uniqueness_criteria": criteria})
    answer = await api.post("/v1/jobs", json={"executor": "mail", "data": 2, "uniqueness_criteria": criteria})
    assert (answer.status_code, answer.json()) == (200, {"id": 1, "outcome": "replaced"})
    assert (await get(api, 1))["data"] == 2


async def test_a_bulk_answers_in_order_and_its_later_jobs_see_earlier_ones(api: httpx2.AsyncClient) -> None:
    unique = {"executor": "mail", "uniqueness_criteria": {"key": "k"}}
    answer = await api.post("/v1/jobs/bulk", json={"jobs": [unique, {"executor": "other"}, unique]})
    assert answer.status_code == 200
    assert answer.json() == {
        "results": [
            {"id": 1, "outcome": "inserted"},
            {"id": 2, "outcome": "inserted"},
            {"id": 1, "outcome": "existing"},
        ]
    }


async def test_an_empty_bulk_is_nothing(api: httpx2.AsyncClient) -> None:
    assert (await api.post("/v1/jobs/bulk", json={"jobs": []})).json() == {"results": []}


async def test_a_job_has_all_members_of_the_contract_in_its_order(api: httpx2.AsyncClient) -> None:
    await enqueue(api, data={"a": 1}, tags=["x"], uniqueness_criteria={"key": "k"})
    job = await get(api, 1)
    assert list(job) == [
        *("id", "executor", "status", "data", "metadata", "attempt", "max_attempts", "priority", "tags", "errors"),
        *("error_count", "inserted_at", "scheduled_at", "attempted_at", "completed_at", "cancelled_at"),
        *("discarded_at", "attempted_by", "uniqueness_key", "fence", "lease_expires_at", "version"),
    ]
    assert job["scheduled_at"] == job["inserted_at"]
    assert (job["data"], job["metadata"], job["tags"], job["uniqueness_key"]) == ({"a": 1}, None, ["x"], "k")


async def test_a_job_has_its_version_as_etag(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    answer = await api.get("/v1/jobs/1")
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"'


@pytest.mark.parametrize(
    ("mark", "status", "end"),
    [
        ("complete", "complete", "completed_at"),
        ("cancel", "cancelled", "cancelled_at"),
        ("discard", "discarded", "discarded_at"),
    ],
)
async def test_only_the_end_that_fits_the_status_is_set(
    api: httpx2.AsyncClient, mark: str, status: str, end: str
) -> None:
    await enqueue(api)
    await api.post(f"/v1/jobs/1/{mark}", json={} if mark == "complete" else {"error": FAILURE})
    job = await get(api, 1)
    assert job["status"] == status
    assert [name for name in ("completed_at", "cancelled_at", "discarded_at") if job[name] is not None] == [end]


async def test_an_update_changes_what_it_names_and_answers_the_job(api: httpx2.AsyncClient) -> None:
    await enqueue(api, data=1, metadata=2, tags=["a"])
    changes = {"data": None, "priority": 7, "max_attempts": 9, "tags": [], "scheduled_at": "2030-01-01T01:00:00+01:00"}
    answer = await api.patch("/v1/jobs/1", json=changes)
    job = await get(api, 1)
    assert (answer.status_code, answer.json()) == (200, job)
    assert answer.headers["etag"] == f'"{job["version"]}"'
    expected = {**changes, "metadata": 2, "scheduled_at": "2030-01-01T00:00:00.000000Z", "version": 2}
    assert {name: job[name] for name in expected} == expected


async def test_an_update_may_give_a_delay(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    before = await get(api, 1)
    after = (await api.patch("/v1/jobs/1", json={"delay": "P1D"})).json()
    assert after["scheduled_at"] > before["scheduled_at"]


@pytest.mark.parametrize("changes", [{"scheduled_at": None}, {"tags": None}, {"priority": None}, {"executor": "x"}])
async def test_an_update_refuses_what_it_cannot_set(api: httpx2.AsyncClient, changes: dict[str, Any]) -> None:
    await enqueue(api)
    assert problem(await api.patch("/v1/jobs/1", json=changes)) == (422, "validation-error")
    assert (await get(api, 1))["version"] == 1


async def test_data_and_metadata_stay_within_the_limit_across_updates(api: httpx2.AsyncClient) -> None:
    await enqueue(api, data="x" * 300_000)
    answer = await api.patch("/v1/jobs/1", json={"metadata": "x" * 300_000})
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == ["/data"]


@pytest.mark.parametrize("tags", ['"1"', '"7", "1"', '"7","1" ,', "*", " * "])
async def test_an_update_is_made_if_the_version_matches(api: httpx2.AsyncClient, tags: str) -> None:
    await enqueue(api)
    answer = await api.patch("/v1/jobs/1", json={"priority": 1}, headers={"if-match": tags})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("tags", ['"2"', '"01"', '"2", "3"'])
async def test_an_update_is_refused_if_no_version_matches(api: httpx2.AsyncClient, tags: str) -> None:
    await enqueue(api)
    answer = await api.patch("/v1/jobs/1", json={"priority": 1}, headers={"if-match": tags})
    assert problem(answer) == (412, "version-mismatch")
    assert (answer.json()["job_id"], answer.json()["current_version"]) == (1, 1)
    assert (await get(api, 1))["priority"] == 0


@pytest.mark.parametrize("tags", ["1", 'W/"1"', '"x"', "", '"1" "2"', '*, "1"', '"1', '"-1"', ","])
async def test_another_if_match_is_422(api: httpx2.AsyncClient, tags: str) -> None:
    await enqueue(api)
    answer = await api.patch("/v1/jobs/1", json={"priority": 1}, headers={"if-match": tags})
    assert problem(answer) == (422, "validation-error")


async def test_if_match_may_stand_on_several_lines(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    headers = [("if-match", '"7"'), ("if-match", '"1"')]
    assert (await api.patch("/v1/jobs/1", json={"priority": 1}, headers=headers)).status_code == 200


async def test_an_update_of_no_job_is_404(api: httpx2.AsyncClient) -> None:
    assert problem(await api.patch("/v1/jobs/1", json={}, headers={"if-match": "*"})) == (404, "job-not-found")


async def test_an_executing_job_is_rerun_only_by_force(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    await claim(api)
    answer = await api.post("/v1/jobs/1/rerun")
    assert problem(answer) == (409, "job-executing")
    assert (answer.json()["job_id"], answer.json()["current_status"]) == (1, "executing")
    answer = await api.post("/v1/jobs/1/rerun", json={"force": True})
    assert answer.json() == {"id": 1, "status": "scheduled", "duplicate": False}


async def test_a_prune_counts_and_deletes(api: httpx2.AsyncClient) -> None:
    for executor in ("mail", "mail", "other"):
        await api.post(f"/v1/jobs/{await enqueue(api, executor)}/complete")
    spec = {"status": "complete", "prune_by": {"max_length": 0}, "executors": {"only": ["mail"]}}
    assert (await api.post("/v1/jobs/prune", json=spec | {"dry_run": True})).json() == {"deleted": 2}
    assert (await api.post("/v1/jobs/prune", json=spec)).json() == {"deleted": 2}
    assert (await api.get("/v1/jobs/3")).status_code == 200


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"status": "executing", "prune_by": {"max_length": 0}}, "/status"),
        ({"status": "gone", "prune_by": {"max_length": 0}}, "/status"),
        ({"status": "complete"}, ""),
        ({"status": "complete", "prune_by": {}}, "/prune_by"),
        ({"status": "complete", "prune_by": {"max_age": 1, "max_length": 1}}, "/prune_by"),
        ({"status": "complete", "prune_by": {"max_length": -1}}, "/prune_by/max_length"),
        ({"status": "complete", "prune_by": {"max_age": "P1Y"}}, "/prune_by/max_age"),
        ({"status": "complete", "prune_by": {"max_length": 0}, "executors": {}}, "/executors"),
        ({"status": "complete", "prune_by": {"max_length": 0}, "executors": {"only": [], "except": []}}, "/executors"),
        ({"status": "complete", "prune_by": {"max_length": 0}, "executors": {"except": ["\0"]}}, "/executors/except/0"),
        ({"status": "complete", "prune_by": {"max_length": 0}, "executors": None}, "/executors"),
        ({"status": "complete", "prune_by": {"max_length": 0}, "dry_run": "no"}, "/dry_run"),
    ],
)
async def test_a_wrong_prune_is_422(api: httpx2.AsyncClient, spec: dict[str, Any], pointer: str) -> None:
    answer = await api.post("/v1/jobs/prune", json=spec)
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == [pointer]


async def test_replace_that_makes_a_job_too_large_names_its_place_in_the_bulk(api: httpx2.AsyncClient) -> None:
    half = "x" * (300 * 1024)
    await enqueue(api, data=half, uniqueness_criteria={"key": 7})
    criteria = {"key": 7, "on_conflict": {"replace": ["metadata"]}}
    too_large = {"executor": "mail", "metadata": half, "uniqueness_criteria": criteria}
    answer = await api.post("/v1/jobs/bulk", json={"jobs": [{"executor": "mail"}, too_large]})
    assert (answer.status_code, pointers(answer)) == (422, ["/jobs/1/data"])
    alone = await api.post("/v1/jobs", json=too_large)
    assert (alone.status_code, pointers(alone)) == (422, ["/data"])
