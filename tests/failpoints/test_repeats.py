"""The server ends before an answer is out, as by a kill; the repeat under the same key is served once."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from app.observability.failpoints import EXIT_STATUS
from tests.end_to_end.server import Server, http_client
from tests.services import on_both_databases

MORE = pytest.mark.chaos
ENQUEUE = ("/v1/jobs", {"executor": "mail"})
BULK = ("/v1/jobs/bulk", {"jobs": [{"executor": "mail"}, {"executor": "mail"}]})
RERUN = ("/v1/jobs/1/rerun", {})
KEY = {"Idempotency-Key": "k"}


@pytest.mark.parametrize(
    ("request_", "point", "was_committed"),
    [
        pytest.param(ENQUEUE, "insert_once.before_commit", False, id="enqueue before the commit"),
        pytest.param(ENQUEUE, "insert_once.after_commit", True, id="enqueue after the commit"),
        pytest.param(ENQUEUE, "answer.middle", True, id="enqueue in the middle of the answer", marks=MORE),
        pytest.param(BULK, "insert_once.before_commit", False, id="bulk before the commit", marks=MORE),
        pytest.param(BULK, "insert_once.after_commit", True, id="bulk after the commit", marks=MORE),
        pytest.param(RERUN, "rerun_once.before_commit", False, id="rerun before the commit", marks=MORE),
        pytest.param(RERUN, "rerun_once.after_commit", True, id="rerun after the commit", marks=MORE),
    ],
)
@on_both_databases
async def test_repeat_of_a_request_whose_answer_was_lost(
    request_, point, was_committed, database_url: str, tmp_path: Path
):
    path, body = request_
    expected = {"/v1/jobs": [5], "/v1/jobs/bulk": [5, 5]}.get(path, [6])
    server = Server(tmp_path, database_url=database_url)
    if path.endswith("/rerun"):
        with server.running():
            async with http_client(server.url) as http:
                await http.post("/v1/jobs", json={"executor": "mail"})
    server.settings["failpoints"] = f"{point}=exit@1"
    await asyncio.to_thread(server.start)
    async with http_client(server.url) as http:
        with pytest.raises(httpx2.TransportError):
            await http.post(path, json=body, headers=KEY)
        assert await asyncio.to_thread(server.wait) == EXIT_STATUS
        server.settings["failpoints"] = ""
        with server.running():
            repeat = await http.post(path, json=body, headers=KEY)
            again = await http.post(path, json=body, headers=KEY)
            page = (await http.post("/v1/jobs/query", json={"query": {"and": []}})).json()
    assert ("Idempotency-Replayed" in repeat.headers) is was_committed
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.content) == (repeat.status_code, repeat.content)
    assert repeat.status_code in {200, 201}
    assert [job["max_attempts"] for job in page["jobs"]] == expected
