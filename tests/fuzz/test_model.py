"""The service does what the contract says, step by step: a model of it, and any sequence of operations."""

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz.effort import TIMEOUT_SECONDS, rounds
from tests.fuzz.machine import ServiceMachine
from tests.fuzz.system import running_system


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize("require_fence", [False, True])
def test_answers_and_rows_are_those_of_the_model(tmp_path, require_fence):
    with running_system(tmp_path, require_fence=require_fence) as system:
        for effort in rounds(6 if require_fence else 22, stateful_step_count=45):
            run_state_machine_as_test(lambda: ServiceMachine(system, require_fence=require_fence), settings=effort)
