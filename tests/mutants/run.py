"""Mutants: each patch brings one known bug back in a copy of the tree, and a test named in it must fail there.

``python tests/mutants/run.py [NAME …]``. A patch begins with a sentence on the bug and a line ``tests: …``, what pytest
is to run. The named tests are first run without any bug: a test that fails anyway catches nothing.
"""

import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
TESTS_FAILED = 1
"""The exit status of pytest for this, as against tests that could not be run."""
SECONDS = 600


class Unusable(Exception):
    """A mutant that proves nothing; the message says why."""


@dataclass(frozen=True)
class Mutant:
    name: str
    patch: Path
    bug: str
    tests: list[str]


def mutants() -> list[Mutant]:
    return [read_mutant(path) for path in sorted(FOLDER.glob("*.patch"))]


def read_mutant(path: Path) -> Mutant:
    head = re.match(r"(?P<bug>[^\n]+)\ntests: (?P<tests>[^\n]+)\n\ndiff --git ", path.read_text(encoding="utf-8"))
    if head is None:
        raise Unusable(f"{path.name}: expected a sentence, a line of tests, an empty line and a diff")
    return Mutant(path.stem, path, head["bug"], shlex.split(head["tests"]))


def copy_tree(folder: Path) -> Path:
    """Copy what git tracks, as it is now, into a folder."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    copy = folder / "copy"
    copy.mkdir()
    packing = subprocess.Popen(
        ["tar", "--create", "--null", "--ignore-failed-read", "--files-from=-"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    packed, _ = packing.communicate(names)
    subprocess.run(["tar", "--extract"], cwd=copy, input=packed, check=True)
    return copy


def apply(mutant: Mutant, tree: Path, *options: str) -> None:
    """Apply a mutant's patch, or with ``--check`` see whether it can be. Raises Unusable."""
    command = ["git", "apply", *options, str(mutant.patch)]
    # Outside of any repository, so that git looks at the files alone.
    done = subprocess.run(
        command,
        cwd=tree,
        env={"GIT_CEILING_DIRECTORIES": str(tree.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unusable(f"{mutant.name} does not apply: {done.stderr.strip()}")


def failing_tests(tree: Path, tests: Sequence[str]) -> list[str]:
    """Run tests up to the first failure and return those that failed. Raises Unusable when they could not be run."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "", *tests]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=SECONDS, check=False)
    failed = re.findall(r"^FAILED (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode not in (0, TESTS_FAILED) or (done.returncode == TESTS_FAILED and not failed):
        raise Unusable(f"the tests could not be run:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    return failed


def examine(mutant: Mutant) -> tuple[bool, str]:
    """Return whether a test catches a mutant, and which."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            tree = copy_tree(Path(folder))
            apply(mutant, tree)
            failed = failing_tests(tree, mutant.tests)
        except Unusable as error:
            return False, f"UNUSABLE: {error}"
    return bool(failed), failed[0] if failed else "NOT CAUGHT"


def main(names: Sequence[str]) -> int:
    """Print a table; return the exit status, 0 if each mutant was caught."""
    chosen = [mutant for mutant in mutants() if not names or mutant.name in names]
    with tempfile.TemporaryDirectory() as folder:
        named = sorted({test for mutant in chosen for test in mutant.tests})
        failed = failing_tests(copy_tree(Path(folder)), named)
    if failed:
        print(f"without any mutant there fail: {', '.join(failed)}")
        return 1
    caught = 0
    for mutant in chosen:
        started_at = time.monotonic()
        is_caught, how = examine(mutant)
        caught += is_caught
        print(f"{mutant.name:32} {time.monotonic() - started_at:4.0f} s  {how}", flush=True)
    print(f"{caught} of {len(chosen)} caught")
    return 0 if caught == len(chosen) > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
