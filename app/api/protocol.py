"""What the service says of itself: in ``GET /v1``, and in the ``hello`` of each stream."""

from typing import Any

import msgspec

from ..domain.limits import (
    ERROR_BYTES_TO_WORKERS,
    ERRORS_TO_WORKERS,
    MAX_CLAIM,
    MAX_CLAIM_WAIT_SECONDS,
    MAX_FRAME_BYTES,
    MAX_FRAME_MESSAGES,
    MAX_JSON_DEPTH,
    MAX_OPEN_CREDITS,
    MAX_PAGE,
    MAX_PAGE_BYTES,
    MAX_QUERY_DEPTH,
    MAX_QUERY_NODES,
    MAX_QUERY_VALUES,
    Limits,
)

PROTOCOL = 1
SUBPROTOCOL = "rexecutor.v1"
FEATURES = (
    "batch",
    "bulk",
    "claim",
    "idempotency_keys",
    "leases",
    "prefetch",
    "prune",
    "query",
    "resume",
    "uniqueness",
)


def limits_document(limits: Limits) -> dict[str, Any]:
    """Return the limits as clients get them: sizes in bytes, times in seconds, all else in numbers."""
    return msgspec.structs.asdict(limits) | {
        "json_depth": MAX_JSON_DEPTH,
        "credits": MAX_OPEN_CREDITS,
        "frame_bytes": MAX_FRAME_BYTES,
        "frame_messages": MAX_FRAME_MESSAGES,
        "errors_to_workers": ERRORS_TO_WORKERS,
        "error_bytes_to_workers": ERROR_BYTES_TO_WORKERS,
        "page_jobs": MAX_PAGE,
        "page_bytes": MAX_PAGE_BYTES,
        "query_depth": MAX_QUERY_DEPTH,
        "query_nodes": MAX_QUERY_NODES,
        "query_values": MAX_QUERY_VALUES,
        "claim_jobs": MAX_CLAIM,
        "claim_wait_seconds": MAX_CLAIM_WAIT_SECONDS,
    }
