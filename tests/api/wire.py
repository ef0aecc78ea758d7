"""Requests and answers, for tests of the API."""

from typing import Any

import httpx2

JSON = {"content-type": "application/json"}
FAILURE = {"error_type": "custom", "message": "Error Message"}


async def send(api: httpx2.AsyncClient, method: str, path: str, body: bytes, **headers: str) -> httpx2.Response:
    """Send a body as it is, as JSON unless told otherwise."""
    return await api.request(method, path, content=body, headers=JSON | headers)


async def enqueue(api: httpx2.AsyncClient, executor: str = "mail", **members: Any) -> int:
    answer = await api.post("/v1/jobs", json={"executor": executor, **members})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def claim(api: httpx2.AsyncClient, executor: str = "mail", **members: Any) -> dict[str, Any]:
    answer = await api.post(f"/v1/executors/{executor}/claim", json=members)
    (job,) = answer.json()["jobs"]
    return dict(job)


async def get(api: httpx2.AsyncClient, job_id: int) -> dict[str, Any]:
    answer = await api.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def problem(answer: httpx2.Response) -> tuple[int, str]:
    """Return an answer's status and slug, once it is seen to be a whole problem."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    assert document["title"]
    assert document["detail"]
    return answer.status_code, document["type"].removeprefix("/problems/")


def pointers(answer: httpx2.Response) -> list[str]:
    return [error["pointer"] for error in answer.json()["errors"]]
