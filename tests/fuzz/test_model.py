"""On both databases the service does what the contract says: a model of it, and any sequence of operations."""

import pytest
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz.effort import MINUTES, TIMEOUT_SECONDS, rounds
from tests.fuzz.machine import ServiceMachine
from tests.fuzz.system import running_system

# To shrink what fails takes minutes.
PHASES = [Phase.generate, Phase.shrink] if MINUTES else [Phase.generate]


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize("require_fence", [False, True])
def test_answers_and_rows_are_those_of_the_model(tmp_path, postgres, require_fence):
    with (
        postgres.database() as url,
        running_system(tmp_path, url, require_fence=require_fence) as system,
    ):
        for effort in rounds(4 if require_fence else 15, stateful_step_count=45, phases=PHASES):
            run_state_machine_as_test(lambda: ServiceMachine(system, require_fence=require_fence), settings=effort)
