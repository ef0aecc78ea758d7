"""Acknowledgements over HTTP; what each does to a job in each state is the domain's own test."""

from typing import Any

import httpx2
import pytest

from tests.api.wire import FAILURE, claim, enqueue, get, problem


@pytest.mark.parametrize(
    ("mark", "members", "status"),
    [
        ("complete", {}, "complete"),
        ("retry", {"delay": 60, "error": FAILURE}, "retryable"),
        ("discard", {"error": FAILURE}, "discarded"),
        ("cancel", {"error": FAILURE}, "cancelled"),
        ("snooze", {"delay": 60}, "scheduled"),
        ("release", {}, "scheduled"),
    ],
)
async def test_a_fenced_mark_is_acknowledged_and_repeating_it_is_a_duplicate(
    api: httpx2.AsyncClient, mark: str, members: dict[str, Any], status: str
) -> None:
    await enqueue(api)
    body = members | {"fence": (await claim(api))["fence"]}
    answer = await api.post(f"/v1/jobs/1/{mark}", json=body)
    assert (answer.status_code, answer.json()) == (200, {"id": 1, "status": status, "duplicate": False})
    answer = await api.post(f"/v1/jobs/1/{mark}", json=body)
    assert (answer.status_code, answer.json()) == (200, {"id": 1, "status": status, "duplicate": True})


@pytest.mark.parametrize("mark", ["complete", "retry", "discard", "cancel", "snooze", "release", "heartbeat"])
async def test_a_stale_fence_is_409_and_no_job_404(api: httpx2.AsyncClient, mark: str) -> None:
    body: dict[str, Any] = {"fence": 7}
    if mark in {"retry", "snooze"}:
        body["delay"] = 1
    if mark in {"retry", "discard", "cancel"}:
        body["error"] = FAILURE
    assert problem(await api.post(f"/v1/jobs/1/{mark}", json=body)) == (404, "job-not-found")
    await enqueue(api)
    answer = await api.post(f"/v1/jobs/1/{mark}", json=body)
    assert problem(answer) == (409, "stale-fence")
    assert (answer.json()["job_id"], answer.json()["current_status"]) == (1, "scheduled")


async def test_an_unfenced_refusal_is_an_invalid_transition(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    await api.post("/v1/jobs/1/complete")
    answer = await api.post("/v1/jobs/1/discard", json={"error": FAILURE})
    assert problem(answer) == (409, "invalid-transition")
    assert answer.json()["current_status"] == "complete"


async def test_an_error_never_makes_an_acknowledgement_fail(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    error = {"error_type": "\0" + "é" * 500, "message": "\0" + "é" * 100_000}
    assert (await api.post("/v1/jobs/1/retry", json={"delay": 0, "error": error})).status_code == 200
    (recorded,) = (await get(api, 1))["errors"]
    assert recorded["error_type"] == "\ufffd" + "é" * 127
    assert recorded["details"].startswith("\ufffdéé")
    assert len(recorded["details"].encode()) <= 64 * 1024


@pytest.mark.parametrize(
    "when",
    [
        {"next_scheduled_at": "9999-12-31T23:59:59Z"},
        {"next_scheduled_at": "2201-01-01T00:00:00Z"},
        {"delay": 1e18},
        {"delay": 10**30},
        {"delay": "P999999D"},
    ],
)
async def test_a_time_to_run_beyond_2200_is_2200(api: httpx2.AsyncClient, when: dict[str, Any]) -> None:
    await enqueue(api)
    for mark, members in (("retry", {"error": FAILURE}), ("snooze", {})):
        answer = await api.post(f"/v1/jobs/1/{mark}", json=when | members)
        assert answer.status_code == 200, answer.text
        assert (await get(api, 1))["scheduled_at"] == "2200-12-31T23:59:59.999999Z"


async def test_a_heartbeat_tells_until_when_the_job_is_held(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    job = await claim(api)
    answer = await api.post("/v1/jobs/1/heartbeat", json={"fence": job["fence"], "lease": "PT1H"})
    assert answer.status_code == 200
    assert answer.json() == {"id": 1, "lease_expires_at": (await get(api, 1))["lease_expires_at"]}
    assert answer.json()["lease_expires_at"] > job["lease_expires_at"]
