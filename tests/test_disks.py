"""Without a small disk the proofs that need one are left out, but not unseen where they have to be made."""

import pytest

from tests.disks import REQUIRED, small_disk


@pytest.fixture
def _no_mount(tmp_path, monkeypatch):
    """As for a user who may not mount."""
    mount = tmp_path / "mount"
    mount.write_text("#!/bin/sh\necho must be superuser >&2\nexit 32\n")
    mount.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("_no_mount")
@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_disk_that_cannot_be_mounted(tmp_path, monkeypatch, required, outcome):
    monkeypatch.setenv(REQUIRED, required)
    with pytest.raises(outcome, match="must be superuser"), small_disk(tmp_path, 1):
        raise AssertionError
