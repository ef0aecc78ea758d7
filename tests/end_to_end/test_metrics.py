"""The metrics of a real server with a real worker."""

import json

from websockets.asyncio.client import connect

from tests.end_to_end.server import Server, http_client
from tests.end_to_end.test_stream import address, receive
from tests.metrics import scrape


async def test_metrics_follow_a_worker_from_its_hello_to_its_leave(tmp_path):
    server = Server(tmp_path, lease_seconds=30)
    with server.running():
        async with http_client(server.url) as http:
            tasks = (await scrape(http)).value("tasks")
            async with connect(address(server, "mail", "prefetch=3"), proxy=None) as socket:
                assert (await receive(socket))["type"] == "hello"
                page = await scrape(http)
                assert (page.value("connections", executor="mail"), page.value("credits", executor="mail")) == (1, 3)
                assert page.value("tasks") > tasks
                assert page.value("http_requests_total", operation="subscribe_ready_jobs", status="101") == 1

                for members in ({}, {}, {"delay": 0.2}):
                    await http.post("/v1/jobs", json={"executor": "mail", **members})
                jobs = [(await receive(socket))["job"] for _ in range(3)]
                page = await scrape(http)
                assert (page.value("credits", executor="mail"), page.value("held_jobs", executor="mail")) == (0, 3)
                assert page.value("jobs", executor="mail", status="executing") == 3
                assert page.value("jobs_claimed_total", executor="mail") == 3
                assert (page.value("pickup_seconds_count"), page.value("lateness_seconds_count")) == (2, 1)

                for job in jobs:
                    done = {"type": "complete", "id": job["id"], "fence": job["fence"], "ref": str(job["id"])}
                    await socket.send(json.dumps(done))
                    assert (await receive(socket))["ok"]
                page = await scrape(http)
                assert (page.value("credits", executor="mail"), page.value("held_jobs", executor="mail")) == (3, 0)
                assert page.by("operation", "jobs_acknowledged_total") == {"complete": 3}
            while (await scrape(http)).value("connections", executor="mail"):
                pass
            assert (await scrape(http)).by("executor", "credits") == {}
            assert (await http.get("/v1/executors/mail/subscribe")).status_code == 404
