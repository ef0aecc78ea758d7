"""The contract's limits; those of a ``Limits`` may be set, the rest are fixed by the contract."""

from msgspec import Struct

MAX_INT64 = 2**63 - 1
MIN_INT64 = -(2**63)
MAX_UINT16 = 65_535
MAX_OPEN_CREDITS = 10_000
MAX_HELD = 15_000
"""Most jobs that one session holds: a resume lists them all in one frame."""
MAX_KEY_CHARACTERS = 1_024
"""Of a uniqueness key: it goes to workers in a frame, beside all else that a job has."""
MAX_JSON_DEPTH = 64
MAX_ERRORS_KEPT = 50
MAX_ATTEMPTED_BY = 10
MAX_ERROR_TYPE_CHARACTERS = 128
MAX_ERROR_MESSAGE_BYTES = 64 * 1024
MAX_FRAME_BYTES = 1024 * 1024
MAX_FRAME_MESSAGES = 10_000
ERRORS_TO_WORKERS = 3
ERROR_BYTES_TO_WORKERS = 4 * 1024
MAX_PAGE = 1_000
MAX_PAGE_BYTES = 8 * 1024 * 1024
MAX_QUERY_DEPTH = 32
MAX_QUERY_NODES = 500
MAX_QUERY_VALUES = 10_000
QUERY_SECONDS = 5.0
MAX_CLAIM = 1_000
MAX_CLAIM_WAIT_SECONDS = 60.0
MIN_LEASE_SECONDS = 1
MAX_LEASE_SECONDS = 12 * 60 * 60


class Limits(Struct, frozen=True):
    """What one request may bring; given to clients by ``GET /v1`` and ``hello``."""

    request_bytes: int = 1024 * 1024
    bulk_bytes: int = 32 * 1024 * 1024
    bulk_jobs: int = 10_000
    payload_bytes: int = 512 * 1024
    """``data`` and ``metadata`` of one job together, as compact JSON in UTF-8."""
    tags: int = 32
    tag_characters: int = 128
