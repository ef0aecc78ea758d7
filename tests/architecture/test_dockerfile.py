"""The Dockerfile says what the image must be; no engine is needed to read it."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Instruction(NamedTuple):
    keyword: str
    arguments: str


def parse(text: str) -> list[Instruction]:
    """Gives the instructions in order, continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture
def stages() -> list[list[Instruction]]:
    """The instructions of each stage, its FROM first."""
    found: list[list[Instruction]] = []
    for instruction in parse((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        if instruction.keyword == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


@pytest.fixture
def image(stages: list[list[Instruction]]) -> list[Instruction]:
    """The last stage: what is shipped."""
    return stages[-1]


def arguments(instructions: list[Instruction], keyword: str) -> list[str]:
    return [instruction.arguments for instruction in instructions if instruction.keyword == keyword]


def test_image_is_built_in_two_stages_and_takes_only_the_result(stages):
    assert len(stages) == 2
    assert arguments(stages[0], "FROM")[0].endswith(" AS builder")
    copies = arguments(stages[1], "COPY")
    assert copies
    assert all(copy.startswith("--from=builder ") for copy in copies)


def test_image_does_not_run_as_root(image):
    (user,) = arguments(image, "USER")
    assert user.split(":")[0] not in {"root", "0"}


def test_health_check_asks_whether_the_service_is_ready_without_a_shell(image):
    (check,) = arguments(image, "HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2] or check.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    assert "/readyz" in command[2]
    compile(command[2], "healthcheck", "exec")


def test_database_lies_on_the_volume(image):
    assert arguments(image, "VOLUME") == ["/data"]
    assert "REXECUTOR_DATABASE_URL=sqlite:////data/" in " ".join(arguments(image, "ENV"))


def test_service_listens_on_every_address_of_the_container(image):
    assert "REXECUTOR_HOST=0.0.0.0" in " ".join(arguments(image, "ENV"))
    assert arguments(image, "EXPOSE") == ["8000"]


def test_command_is_in_exec_form_so_that_it_gets_the_signals(image):
    (command,) = arguments(image, "CMD")
    assert json.loads(command) == ["rexecutor", "serve"]


def test_every_copied_source_exists_and_is_let_through_by_dockerignore(stages):
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    sources = [source for copy in arguments(stages[0], "COPY") for source in copy.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(f"{pattern}*") or source.startswith(f"{pattern}/") for pattern in allowed), source


def test_requirements_are_installed_by_hash(stages):
    installs = [run for run in arguments(stages[0], "RUN") if "pip install" in run and "-r " in run]
    assert installs
    for run in installs:
        assert run.count("--require-hashes -r") == run.count("-r /")
