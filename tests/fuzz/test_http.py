"""No request is answered otherwise than the OpenAPI document says, and none leaves an error in the log."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from app.domain.instant import parse_duration
from app.domain.limits import MAX_CLAIM_WAIT_SECONDS
from tests.end_to_end.server import Server
from tests.fuzz.effort import TIMEOUT_SECONDS, rounds

EXAMPLES = 4
CONFIG: dict[str, Any] = {
    "checks": {
        # A schema cannot say all: 7.0 is an integer to it, and a day of the year 1900 a time.
        "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "412", "422"]}
    },
    "operations": [
        # To other methods the last part of these paths is a job's id, and wrong as such.
        {
            "include-path": f"/v1/jobs/{name}",
            "checks": {"unsupported_method": {"enabled": False}, "allow_header_conformance": {"enabled": False}},
        }
        for name in ("bulk", "prune", "query")
    ],
}


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
def test_every_answer_is_as_documented(tmp_path, database_url):
    server = Server(tmp_path, database_url=database_url, log_level="WARNING", lease_seconds=30)
    answered: Counter[str] = Counter()
    # The wire is the same: what the other database makes of it is to be seen.
    examples = EXAMPLES if database_url.startswith("sqlite") else EXAMPLES // 2
    with server.running():
        failures = [each for effort in rounds(examples) for each in complaints(server.url, effort, answered)]
    assert not failures, "\n\n".join(failures[:10])
    # Otherwise little would have been tried.
    assert answered.keys() >= {"enqueue", "enqueue_many", "claim_jobs", "mark_job_complete", "rerun_job", "query"}


def complaints(url: str, effort: settings, answered: Counter[str]) -> Iterator[str]:
    """What is wrong with the answers of a service; counts its successes by operation."""
    for event in from_schema(schema_of(url, effort)).execute():
        if isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            for case_id, interaction in recorder.interactions.items():
                if interaction.response is not None and interaction.response.status_code < 300:
                    answered[recorder.cases[case_id].value.operation.definition.raw["operationId"]] += 1
            for checks in recorder.checks.values():
                for check in checks:
                    if check.failure_info is not None:
                        failure, sample = check.failure_info.failure, check.failure_info.code_sample
                        yield f"{event.phase}, {failure.title}: {failure.message}\n{sample}"
        elif isinstance(event, events.NonFatalError | events.FatalError):
            yield str(event)


def schema_of(url: str, effort: settings) -> Any:
    """The document that the service serves, with how to try it."""
    config = SchemathesisConfig.from_dict(CONFIG | ({"seed": 1} if effort.derandomize else {}))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    schema = schema.exclude(operation_id="subscribe_ready_jobs")
    generation = schema.config.generation
    # All phases in each round: the chains of requests come last.
    generation.deterministic, generation.max_examples = effort.derandomize, min(effort.max_examples, 20)
    return schema


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Never wait long for a job."""
    if isinstance(case.body, dict) and "wait" in case.body and is_allowed_wait(case.body["wait"]):
        case.body["wait"] = 0.01


def is_allowed_wait(wait: Any) -> bool:
    try:
        return parse_duration(wait).total_seconds() <= MAX_CLAIM_WAIT_SECONDS
    except (TypeError, ValueError):
        return False
