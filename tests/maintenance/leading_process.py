"""A server's loops of leadership, to be killed or stalled: `python -m tests.maintenance.leading_process`."""

import argparse
import asyncio

from app.maintenance.leadership import Leadership
from app.maintenance.sweeper import Sweeper
from app.observability.logging import configure_logging
from tests.maintenance.servers import running_dialect


async def lead(url: str, *, term_seconds: float, sweep_seconds: float) -> None:
    """Lead when it can, and sweep, until killed; tells of it in its log."""
    async with running_dialect(url) as dialect, asyncio.TaskGroup() as tasks:
        leadership = Leadership(dialect, term_seconds=term_seconds)
        tasks.create_task(leadership.loop.run())
        tasks.create_task(Sweeper(dialect, leadership, pause_seconds=sweep_seconds).loop.run())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--term-seconds", type=float, required=True)
    parser.add_argument("--sweep-seconds", type=float, required=True)
    given = parser.parse_args()
    configure_logging(json=True)
    asyncio.run(lead(given.url, term_seconds=given.term_seconds, sweep_seconds=given.sweep_seconds))


if __name__ == "__main__":
    main()
