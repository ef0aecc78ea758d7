"""One process that serves many databases, each on a port of its own: a test need not wait for a start.

Reads settings as JSON, a line for each server, and answers with its URL on a line of its own. Ends with its input.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class ServerProcess:
    """The process, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.server_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def serve(self, **settings: Any) -> str:
        """Return the URL of a new server, once it listens."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(settings), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, f"the server process said {line!r}"
        return found[0]


async def main() -> None:
    # The command's own parts: what a user gets from `rexecutor serve` is what is tested here.
    from app.commands.serve import _listen, _serve  # noqa: PLC0415
    from app.observability.logging import configure_logging  # noqa: PLC0415
    from app.settings import Settings  # noqa: PLC0415

    configure_logging("WARNING", json=True)
    async with asyncio.TaskGroup() as servers:
        while line := await asyncio.to_thread(sys.stdin.readline):
            settings = Settings(port=0, **json.loads(line))
            servers.create_task(_serve(settings, _listen(settings)))
        # Nothing here needs a clean end: the databases are thrown away.
        os._exit(0)


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
