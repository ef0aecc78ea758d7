"""The proxy of compose.yaml, where nginx is installed: two servers behind it, reached by REST and by WebSocket."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.cluster import free_port
from tests.end_to_end.server import ROOT, Server

SECONDS = 20
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def running_nginx(folder: Path, ports: list[int]) -> Iterator[str]:
    """The proxy's own settings, but for where it listens and where the servers are."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    for name, server_port in zip(("server-a", "server-b"), ports, strict=True):
        text = text.replace(f"server {name}:8000", f"server 127.0.0.1:{server_port}")
    folders = " ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};").replace("http {", f"http {{ {folders}")
    text = text.replace("worker_rlimit_nofile 65536;", "").replace("worker_connections 32768;", "")
    settings = folder / "nginx.conf"
    user = "user root; " if os.geteuid() == 0 else ""  # else its workers may not enter the folder
    settings.write_text(f"{user}daemon off; pid {folder}/pid; error_log stderr;\n{text}")
    process = subprocess.Popen([program, "-p", folder, "-c", settings], stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SECONDS
        while not answers(url):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.02)  # it does not say when it listens
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/livez").status_code == 200
    except httpx2.TransportError:
        return False


def test_workers_and_producers_come_through_the_proxy(postgres, tmp_path):
    with postgres.database() as database_url:
        of_both = {"database_url": database_url, "lease_seconds": 30}
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            folder.mkdir()
        servers = [Server(folder, **of_both) for folder in folders]
        with ExitStack() as stack:
            for server in servers:
                stack.enter_context(server.running())
            ports = [int(server.url.rsplit(":", 1)[1]) for server in servers]
            url = stack.enter_context(running_nginx(tmp_path, ports))
            client = stack.enter_context(httpx2.Client(base_url=url, timeout=SECONDS))
            stream = url.replace("http", "ws") + "/v1/executors/mail/subscribe?prefetch=2"
            with pytest.raises(InvalidStatus, match="403"):
                connect(stream, origin="http://elsewhere.example", proxy=None)
            with connect(stream, origin=url, subprotocols=["rexecutor.v1"], proxy=None) as worker:
                assert json.loads(worker.recv(SECONDS))["type"] == "hello"
                ids = [client.post("/v1/jobs", json={"executor": "mail"}).json()["id"] for _ in range(4)]
                for job_id in ids:
                    job = json.loads(worker.recv(SECONDS))["job"]
                    assert job["id"] == job_id
                    worker.send(json.dumps({"type": "complete", "id": job_id, "fence": job["fence"]}))
            large = [{"executor": "bulk", "data": "x" * 400_000} for _ in range(5)]
            assert client.post("/v1/jobs/bulk", json={"jobs": large}).status_code == 200
            servers[0].kill()
            assert {client.get(f"/v1/jobs/{ids[0]}").status_code for _ in range(10)} == {200}
