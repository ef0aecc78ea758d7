"""`make run-postgres`: two servers over a PostgreSQL of their own, for trying; all of it is gone at the end.

Takes the ports of the two, 8000 and 8001 unless told otherwise; 0 is any free one.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

from tests.postgres import running_server

_STOP_SECONDS = 40
_CURL = """
# A job for the one server ...
curl -s {a}/v1/jobs -H 'content-type: application/json' -d '{{"executor": "mail", "data": "hello"}}'
# ... is there for a worker at the other.
curl -s {b}/v1/executors/mail/claim -H 'content-type: application/json' -d '{{"wait": 5, "worker": "by-hand"}}'
curl -s {b}/v1/executors
"""


def main(ports: list[str]) -> int:
    """Serve until Ctrl-C."""
    with ExitStack() as stack:
        print("starting PostgreSQL ...", flush=True)
        database = stack.enter_context(stack.enter_context(running_server()).database(schema=False))
        servers: list[subprocess.Popen[str]] = []
        stack.callback(_stop, servers)
        urls = []
        for port in ports:
            server, url = _serve(database, port)
            servers.append(server)
            if url is None:
                return 1
            urls.append(url)
        print(f"\nserver A  {urls[0]}  docs {urls[0]}/docs\nserver B  {urls[1]}  docs {urls[1]}/docs")
        print(f"database  {database}\n{_CURL.format(a=urls[0], b=urls[1])}\nCtrl-C ends all.", flush=True)
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)  # nothing to do until a signal, or until one of them ends
        return 1


def _serve(database: str, port: str) -> tuple["subprocess.Popen[str]", str | None]:
    """Start a server; return it, and where it serves once it does."""
    environment = {**os.environ, "REXECUTOR_DATABASE_URL": database, "REXECUTOR_PORT": port}
    # A group of its own: Ctrl-C is for this process, which ends the others in their order.
    server = subprocess.Popen(
        [sys.executable, "-m", "app", "serve"], env=environment, stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("rexecutor serves "):
            return server, line.split()[2]
    return server, None


def _stop(servers: list["subprocess.Popen[str]"]) -> None:
    for server in servers:
        server.send_signal(signal.SIGTERM)
    for server in servers:
        server.wait(_STOP_SECONDS)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:] or ["8000", "8001"]))
    except KeyboardInterrupt:
        print("\nended", flush=True)
