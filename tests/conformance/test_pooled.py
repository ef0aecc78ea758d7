"""A part of the suite over the wire, from a server behind a pooler."""

import pytest

from tests.conformance.conftest import LEASE_SECONDS
from tests.conformance.sdk_backend import SdkBackend
from tests.conformance.test_conformance import (  # noqa: F401 - they run here too
    test_enqueue,
    test_enqueue_unique_replace,
    test_mark_job_complete,
    test_mark_job_retryable,
    test_mark_job_snoozed_other_attempt,
    test_query,
    test_subscribe_ready_jobs,
    test_subscribe_ready_jobs_enqueuing_wakes_subscriber,
    test_subscribe_ready_jobs_streams_only_one_steam_receives_job,
    test_update_job,
)
from tests.pooler import pooled_url
from tests.postgres import empty


@pytest.fixture(scope="session")
def pooled_server(postgres, pooler, server_process):
    with postgres.database() as url:
        of_pooled = {"database_url": pooled_url(url, pooler), "pooler": "transaction", "lease_seconds": LEASE_SECONDS}
        yield url, server_process.serve(**of_pooled)


@pytest.fixture
async def backend(pooled_server):
    database_url, server_url = pooled_server
    empty(database_url)
    async with SdkBackend(server_url) as backend:
        yield backend
