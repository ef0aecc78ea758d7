"""The job of all figures: 100 bytes of data, a priority of five, ready-made request bytes."""

from collections.abc import Iterable

import msgspec

EXECUTOR = "bench"
PRIORITIES = 5
DATA_BYTES = 100
BULK_JOBS = 1_000

_DATA = '{"n":"%08d","text":"' + "x" * 74 + '"}'


def data_of(n: int) -> str:
    """Return the data of the n-th job: JSON text of exactly 100 bytes, which carries n."""
    return _DATA % n


def priority_of(n: int) -> int:
    """Return the priority of the n-th job."""
    return n % PRIORITIES


def single_request(n: int) -> bytes:
    """Return the whole request that enqueues the n-th job."""
    return post("/v1/jobs", _job(n))


def bulk_request(numbers: Iterable[int]) -> bytes:
    """Return the whole request that enqueues these jobs at once."""
    return post("/v1/jobs/bulk", _bulk(map(_job, numbers)))


def scheduled_bulk_request(numbers_and_times: Iterable[tuple[int, str]]) -> bytes:
    """Return the whole request that enqueues jobs at once, each for its time in RFC 3339."""
    jobs = (f'{_job(n)[:-1]},"scheduled_at":{msgspec.json.encode(at).decode()}}}' for n, at in numbers_and_times)
    return post("/v1/jobs/bulk", _bulk(jobs))


def post(path: str, body: str) -> bytes:
    """Return the bytes of a keep-alive POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body.encode())}\r\n\r\n{body}".encode()


def _bulk(jobs: Iterable[str]) -> str:
    return f'{{"jobs":[{",".join(jobs)}]}}'


def _job(n: int) -> str:
    return f'{{"executor":"{EXECUTOR}","priority":{priority_of(n)},"data":{data_of(n)}}}'
