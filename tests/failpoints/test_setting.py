"""What the setting of failpoints says."""

import pytest
from pydantic import ValidationError

from app.observability.failpoints import parse_failpoints
from app.settings import Settings
from tests.end_to_end.server import run_command


def test_no_failpoint_is_set_unless_named():
    assert parse_failpoints(Settings().failpoints) is None


def test_each_point_is_reached_at_its_own_pass():
    points = parse_failpoints("a.b=exit@2, c.d=exit")
    assert points is not None
    assert [points.reached("a.b") for _ in range(3)] == [False, True, False]
    assert [points.reached("c.d"), points.reached("c.d"), points.reached("e.f")] == [True, False, False]


@pytest.mark.parametrize("wrong", ["a.b", "a.b=exit@0", "a.b=stop", "A.b=exit", "a=exit", "a.b=exit@1;"])
def test_wrong_setting_is_refused(wrong):
    with pytest.raises(ValidationError):
        Settings(failpoints=wrong)


def test_wrong_setting_is_one_line_of_the_command():
    done = run_command("serve", failpoints="nonsense")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("rexecutor: settings: REXECUTOR_FAILPOINTS: ")
    assert done.stderr.count("\n") == 1
