"""The mutants fit the tree as it is, and what runs them tells a caught one from all else."""

import subprocess
import sys

import pytest

from tests.mutants.run import ROOT, Mutant, Unusable, apply, failing_tests, mutants, read_mutant


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_patch_applies(mutant: Mutant):
    apply(mutant, ROOT, "--check")


def test_tests_that_patches_name_exist():
    named = sorted({test for mutant in mutants() for test in mutant.tests})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", "", *named]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout[-2_000:]


def test_patch_that_does_not_apply_is_no_mutant(tmp_path):
    (tmp_path / "m.patch").write_text(
        "A bug.\ntests: tests/x.py\n\ndiff --git a/app/main.py b/app/main.py\n"
        "--- a/app/main.py\n+++ b/app/main.py\n@@ -1 +1 @@\n-not there\n+bug\n"
    )
    with pytest.raises(Unusable):
        apply(read_mutant(tmp_path / "m.patch"), ROOT, "--check")


def test_patch_without_its_head_is_no_mutant(tmp_path):
    (tmp_path / "m.patch").write_text("diff --git a/app/main.py b/app/main.py\n")
    with pytest.raises(Unusable):
        read_mutant(tmp_path / "m.patch")


def test_only_a_failing_test_catches_a_mutant(tmp_path):
    (tmp_path / "test_good.py").write_text("def test_good(): pass\n")
    (tmp_path / "test_bad.py").write_text("def test_bad(): assert False\n")
    assert failing_tests(tmp_path, ["test_good.py"]) == []
    assert failing_tests(tmp_path, ["test_good.py", "test_bad.py"]) == ["test_bad.py::test_bad"]


@pytest.mark.parametrize("source", ["import no_such_module\n", "def test_x(nothing): pass\n"])
def test_tests_that_cannot_be_run_catch_nothing(tmp_path, source):
    (tmp_path / "test_broken.py").write_text(source)
    with pytest.raises(Unusable):
        failing_tests(tmp_path, ["test_broken.py"])
