"""The pytest plugin: what it needs is imported with the first test that asks for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import ServiceForTests


@pytest.fixture
def rexecutor(tmp_path: Path) -> Iterator["ServiceForTests"]:
    """A service of this test's own, with an empty database, in a thread of this process."""
    from .testing import service_for_tests  # noqa: PLC0415 - pytest imports this module in every run

    with service_for_tests(tmp_path / "rexecutor.db") as service:
        yield service
