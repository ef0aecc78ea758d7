"""The REST operations that the demo uses, over one kept-alive connection of the standard library."""

import json
from http.client import HTTPConnection
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Json: TypeAlias = dict[str, Any]

_SECONDS = 10


class Refused(Exception):
    """The service refused what the demo asked for."""


class Client:
    """Speaks to the service at a URL."""

    def __init__(self, url: str) -> None:
        """Connect with the first call."""
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=_SECONDS)

    def enqueue(self, job: Json) -> Json:
        """Enqueue a job; return its id and the outcome."""
        return self._call("POST", "/v1/jobs", job)

    def get_job(self, job_id: int) -> Json:
        """Return a job."""
        return self._call("GET", f"/v1/jobs/{job_id}")

    def query_all(self) -> list[Json]:
        """Return all jobs, highest id first."""
        jobs: list[Json] = self._call("POST", "/v1/jobs/query", {"query": {"and": []}, "limit": 1_000})["jobs"]
        return jobs

    def cancel(self, job_id: int, message: str) -> Json:
        """Cancel a job, also one that a worker holds: without a fence this is the operator's word."""
        error = {"error_type": "cancelled", "message": message}
        return self._call("POST", f"/v1/jobs/{job_id}/cancel", {"error": error})

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        content = None if body is None else json.dumps(body)
        self._connection.request(method, path, content, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer: Json = json.loads(response.read())
        if response.status >= 400:
            raise Refused(f"{method} {path}: {response.status} {answer['title']}")
        return answer
