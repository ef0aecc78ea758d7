"""Which executors a name means."""

import sys

import pytest

from rexecutor_client.commands.exits import NotDone, UsageError
from rexecutor_client.commands.loading import executors_of

MODULE = """
from rexecutor_client.execution import Executor, executor

@executor("send")
async def send(job): ...

@executor("report")
async def report(job): ...

class Clean(Executor):
    name = "clean"
    async def execute(self, job): ...

executors = [send, Clean]
one_by_one = (each for each in (send, report))
nothing = []
number = 7
mixed = [send, 7]
"""


@pytest.fixture(autouse=True)
def my_app(tmp_path, monkeypatch):
    (tmp_path / "my_app.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import json\n\n1 / 0\n")
    (tmp_path / "garbled.py").write_text("def\n")
    (tmp_path / "lacking.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in ("my_app", "broken", "garbled", "lacking"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("my_app", ["send", "report", "clean"]),
        ("my_app:executors", ["send", "clean"]),
        ("my_app:one_by_one", ["send", "report"]),
        ("my_app:send", ["send"]),
        ("my_app:Clean", ["clean"]),
    ],
)
def test_module_list_and_single_executor_are_found(name, found):
    assert [each.name for each in executors_of(name)] == found


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my_app:missing", "has no 'missing'"),
        ("my_app:nothing", "neither an executor"),
        ("my_app:number", "neither an executor"),
        ("my_app:mixed", "neither an executor"),
        ("no_such_app", "no module 'no_such_app'"),
        ("no_such.app:executors", "no module 'no_such'"),
        ("json", "has no executors"),
        ("", "which module"),
        (".", "which module"),
        (":executors", "which module"),
    ],
)
def test_what_is_no_executor_is_wrong_usage(name, told):
    with pytest.raises(UsageError, match=told):
        executors_of(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken", r"ZeroDivisionError: division by zero \(.*broken\.py, line 3\)"),
        ("garbled", r"SyntaxError: .*garbled\.py, line 1"),
        ("lacking", r"ModuleNotFoundError: No module named 'no_such_library' \(.*lacking\.py, line 1\)"),
    ],
)
def test_module_that_fails_is_told_with_the_line(name, told):
    with pytest.raises(NotDone, match=told):
        executors_of(name)
