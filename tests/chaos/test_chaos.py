"""The short form of `make chaos`: a little of everything, judged as the long one is."""

import pytest

from tests.chaos import postgres, sdk
from tests.chaos.phases import short


@pytest.mark.timeout(240)
async def test_no_promise_is_broken_under_faults(tmp_path):
    verdict = await short(tmp_path, 1, seed=1)
    assert verdict.violations == []
    assert verdict.enqueued > 10
    assert verdict.deliveries > 10
    assert verdict.unknown > 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("phase", sdk.PHASES.values(), ids=sdk.PHASES)
async def test_no_promise_is_broken_by_faults_of_the_clients_worker(tmp_path, phase):
    verdict = await phase(tmp_path, 3, seed=1)
    assert verdict.violations == []
    assert verdict.deliveries > 10


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("phase", [postgres.short, postgres.server_kills], ids=["database", "server"])
async def test_no_promise_is_broken_under_faults_of_postgres(tmp_path, phase):
    verdict = await phase(tmp_path, 1, seed=1)
    print(verdict.did, *verdict.figures, sep="; ")
    assert verdict.violations == []
    assert verdict.deliveries > 10
    assert verdict.unknown > 0
