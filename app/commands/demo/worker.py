"""A worker in a process of its own, with nothing but `websockets`: read it as an example of one.

    python -m rexecutor_server.commands.demo.worker http://127.0.0.1:8000 mail mailer-1

What it does for a job stands in :meth:`Worker.do`; all else is what any worker needs. It tells what happens on standard
output, one JSON object a line.
"""

import asyncio
import json
import signal
import sys
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

PREFETCH = 1
FIRST_PAUSE_SECONDS = 0.5


class Worker:
    """Serves one connection: a task for each job that the service hands out."""

    def __init__(self, socket: ClientConnection, name: str) -> None:
        """Bind a name to an open connection."""
        self.name = name
        self.socket = socket
        self.running: dict[tuple[int, int], asyncio.Task[None]] = {}
        self.stopped = asyncio.Event()

    async def serve(self) -> None:
        """Take messages until the connection ends; its pings are answered by the library, which keeps our jobs ours."""
        async for frame in self.socket:
            message = json.loads(frame)
            match message["type"]:
                case "job":
                    self.start(message["job"])
                case "revoke":
                    # The job with the fence that we hold is no longer ours: whatever we said of it would be refused.
                    task = self.running.get((message["id"], message["fence"]))
                    if task is not None:
                        task.cancel(message["reason"])
                case "result" if message.get("ref") == "stop":
                    self.stopped.set()
                case "result":
                    self.tell(message["id"], message["status"] if message["ok"] else message["problem"]["title"])

    def start(self, job: dict[str, Any]) -> None:
        """Run a job in a task of its own, so that the socket is always served."""
        key = (job["id"], job["fence"])
        self.running[key] = asyncio.create_task(self.execute(job))
        self.running[key].add_done_callback(lambda _: self.running.pop(key))

    async def execute(self, job: dict[str, Any]) -> None:
        """Run a job and acknowledge it with the fence that came with it."""
        self.tell(job["id"], "started", attempt=job["attempt"], scheduled_at=job["scheduled_at"])
        try:
            outcome = await self.do(job["data"], attempt=job["attempt"])
        except asyncio.CancelledError:
            self.tell(job["id"], "told to stop")
            raise
        except Exception as failure:  # noqa: BLE001 - whatever goes wrong in a job is the job's failure
            outcome = _failed(failure, attempt=job["attempt"], max_attempts=job["max_attempts"])
        await self.send({"id": job["id"], "fence": job["fence"], "ref": f"job {job['id']}", **outcome})

    async def do(self, data: dict[str, Any], *, attempt: int) -> dict[str, Any]:
        """Do what the job's data ask for: take some time, wait for an opening, fail a few times."""
        closed_seconds = data.get("opens_at", 0) - time.time()
        if closed_seconds > 0:
            return {"type": "snooze", "delay": closed_seconds}
        await asyncio.sleep(data["seconds"])
        if attempt <= data.get("failures", 0):
            raise ConnectionError("nobody answered")
        return {"type": "complete"}

    async def leave(self) -> None:
        """Take no more jobs, finish those that run, and go."""
        await self.send({"type": "stop", "ref": "stop"})
        await self.stopped.wait()
        await asyncio.gather(*self.running.values(), return_exceptions=True)
        await self.socket.close()

    async def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        await self.socket.send(json.dumps(message))

    def tell(self, job_id: int, event: str, **facts: Any) -> None:
        """Tell those who watch."""
        print(json.dumps({"at": time.time(), "worker": self.name, "job": job_id, "event": event, **facts}), flush=True)


async def work(url: str, executor: str, name: str) -> None:
    """Work for an executor until SIGTERM."""
    query = f"worker={name}&prefetch={PREFETCH}"
    address = f"{url.replace('http', 'ws', 1)}/v1/executors/{executor}/subscribe?{query}"
    # No proxy: the service of the demo is on this machine.
    async with connect(address, subprotocols=[Subprotocol("rexecutor.v1")], proxy=None) as socket:
        worker = Worker(socket, name)
        leaving: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: leaving.append(asyncio.create_task(worker.leave())))
        await worker.serve()


def _failed(failure: Exception, *, attempt: int, max_attempts: int) -> dict[str, Any]:
    """Run again after a pause that doubles; give up after the last attempt. The service leaves that to its workers."""
    error = {"error_type": type(failure).__name__, "message": str(failure)}
    if attempt < max_attempts:
        return {"type": "retry", "error": error, "delay": FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)}
    return {"type": "discard", "error": error}


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:4]))
