"""How long a fuzz test tries: a few examples, always the same, or new ones for some minutes in ``make fuzz``."""

import os
import time
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
"""For each test."""
TIMEOUT_SECONDS = 0 if MINUTES else 300
"""Of a test, for slow machines; 0 is none."""
_ROUND = 50
"""Examples between two looks at the clock."""


def rounds(examples: int, **members: Any) -> Iterator[settings]:
    """Yield settings to run with: once, the same each time; or again and again with random seeds."""
    common = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, **members)
    if not MINUTES:
        yield settings(common, max_examples=examples, derandomize=True)
        return
    end = time.perf_counter() + MINUTES * 60
    while time.perf_counter() < end:
        yield settings(common, max_examples=_ROUND, derandomize=False, print_blob=True)
