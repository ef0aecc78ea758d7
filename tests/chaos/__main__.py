"""`python -m tests.chaos`: make faults, judge, print one table; with ``--write`` keep it in docs/proof.md."""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.chaos import postgres, sdk
from tests.chaos.phases import POINTS, Phase, drains, failpoints, kills, pauses, proxy, workers
from tests.chaos.report import PROOF, proof, table
from tests.chaos.rig import Verdict
from tests.chaos.soak import soak

PHASES: dict[str, tuple[Phase, int]] = {
    "kills": (kills, 50),
    "workers": (workers, 50),
    "pauses": (pauses, 15),
    "proxy": (proxy, 30),
    "drains": (drains, 30),
    "failpoints": (failpoints, len(POINTS)),
    "soak": (soak, 600),
    **{name: (phase, 30) for name, phase in sdk.PHASES.items()},
    "postgres-kills": (postgres.server_kills, 20),
    "postgres-restarts": (postgres.restarts, 10),
    "postgres-outages": (postgres.outages, 5),
    "postgres-backends": (postgres.backends, 10),
    "postgres-stalls": (postgres.stalls, 5),
    "postgres-failpoints": (postgres.failpoints, len(postgres.POINTS)),
}
"""Each with how often, the soak with how many seconds."""
GROUPS = {
    "sqlite": [name for name in PHASES if not name.startswith("postgres")],
    "postgres": [name for name in PHASES if name.startswith("postgres")],
}
_LONGEST_SECONDS = 1_200


async def run_phases(folder: Path, names: list[str], count: int | None, seed: int) -> list[Verdict]:
    """Run phases one after the other, each bounded in time."""
    verdicts: list[Verdict] = []
    for name in names:
        phase, usual = PHASES[name]
        of_phase = folder / name
        of_phase.mkdir(parents=True)
        print(f"{name} …", file=sys.stderr, flush=True)
        async with asyncio.timeout(_LONGEST_SECONDS):
            verdict = await phase(of_phase, count or usual, seed)
        verdicts.append(verdict)
        for violation in verdict.violations[:20]:
            print(f"  VIOLATION {violation}", file=sys.stderr, flush=True)
        for figure in verdict.figures:
            print(f"  {figure}", file=sys.stderr, flush=True)
    return verdicts


async def _until_terminated(running: Coroutine[Any, Any, list[Verdict]]) -> list[Verdict]:
    """Run; SIGTERM ends it as Ctrl-C does, so that no process outlives the command."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await running


def main() -> int:
    """Run the command; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument(
        "--phase",
        action="append",
        choices=[*GROUPS, *PHASES],
        help="only this one, or these of a database; may be repeated",
    )
    parser.add_argument("--count", type=int, help="how many faults, or seconds of the soak, in each phase")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--folder", type=Path, help="where histories and logs are kept")
    parser.add_argument(
        "--write", action="store_true", help="keep the table in docs/proof.md, and the remarks that are there"
    )
    given = parser.parse_args()
    names = [name for phase in given.phase or GROUPS for name in GROUPS.get(phase, [phase])]
    with tempfile.TemporaryDirectory(prefix="rexecutor-chaos-") as temporary:
        folder = given.folder or Path(temporary)
        verdicts = asyncio.run(_until_terminated(run_phases(folder, names, given.count, given.seed)))
    print(table(verdicts))
    if given.write:
        PROOF.write_text(proof(verdicts, given.seed, PROOF.read_text()))
    return 1 if any(verdict.violations for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
