"""Where answers lead: which of their members are parameters of other operations. ONE table, by operation id."""

from typing import Any

_FENCED = (
    "mark_job_complete",
    "mark_job_retryable",
    "mark_job_discarded",
    "mark_job_cancelled",
    "mark_job_snoozed",
    "release_job",
    "renew_lease",
)
_UNFENCED = (
    "get_job",
    "update_job",
    "mark_job_complete",
    "mark_job_retryable",
    "mark_job_discarded",
    "mark_job_cancelled",
    "mark_job_snoozed",
    "rerun_job",
)


def links_of(operation_id: str) -> dict[str, Any]:
    """Return the links of an operation's successful answers, named after the operations that they lead to."""
    return {target: {"operationId": target, **link} for target, link in _LINKS.get(operation_id, {}).items()}


def _to_job(pointer: str) -> dict[str, Any]:
    return {"parameters": {"path.id": f"$response.body#{pointer}/id"}}


def _to_held_job(pointer: str) -> dict[str, Any]:
    return {**_to_job(pointer), "requestBody": {"fence": f"$response.body#{pointer}/fence"}}


_LINKS: dict[str, dict[str, dict[str, Any]]] = {
    "enqueue": {
        **{target: _to_job("") for target in _UNFENCED},
        "claim_jobs": {"parameters": {"path.executor": "$request.body#/executor"}},
    },
    "enqueue_many": {
        "get_job": _to_job("/results/0"),
        "claim_jobs": {"parameters": {"path.executor": "$request.body#/jobs/0/executor"}},
    },
    "claim_jobs": {**{target: _to_held_job("/jobs/0") for target in _FENCED}, "rerun_job": _to_job("/jobs/0")},
    "get_job": {
        "update_job": {
            "parameters": {"path.id": "$response.body#/id", "header.If-Match": "$response.header.ETag"},
        },
        "rerun_job": _to_job(""),
    },
    "query": {
        "get_job": _to_job("/jobs/0"),
        "query": {"requestBody": {"cursor": "$response.body#/next_cursor"}},
    },
}
