"""The phases in which the Python client's worker is killed, paused, cut off and deployed over."""

from functools import partial
from pathlib import Path

from tests.chaos.phases import Phase, deploys, pauses, proxy, workers
from tests.chaos.rig import SDK_WORKER, Verdict


def _of_the_client(phase: Phase) -> Phase:
    async def run(folder: Path, count: int, seed: int) -> Verdict:
        verdict = await partial(phase, worker=SDK_WORKER)(folder, count, seed)
        verdict.phase = f"sdk-{verdict.phase}"
        return verdict

    return run


PHASES = {f"sdk-{phase.__name__}": _of_the_client(phase) for phase in (workers, pauses, proxy, deploys)}
