"""What is installed from the wheel: the package under its own name, with its migrations and pages inside."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# -S leaves the development install's import hook out: only the wheel is there.
RUN = """
import runpy, sys
sys.path[:0] = sys.argv[1:3]
sys.argv = ["rexecutor", *sys.argv[3:]]
runpy.run_module("rexecutor_server", run_name="__main__")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's files, and a foreign package called app beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(folder), str(ROOT)], check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "app").mkdir()
    (site / "app" / "__init__.py").write_text("raise ImportError('a package of the user')\n")
    return site


def test_wheel_holds_one_package_with_its_migrations_and_pages(installed):
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"rexecutor_server", "app"}
    package = installed / "rexecutor_server"
    assert (package / "alembic" / "env.py").exists()
    assert list((package / "alembic" / "versions").glob("0001*.py"))
    assert (package / "api" / "static" / "swagger-ui" / "swagger-ui-bundle.js").exists()
    assert (package / "py.typed").exists()


@pytest.mark.timeout(60)
def test_command_of_the_wheel_migrates_a_new_file(installed, tmp_path):
    answer = subprocess.run(
        [sys.executable, "-S", "-c", RUN, str(installed), sysconfig.get_path("purelib"), "migrate"],
        cwd=tmp_path,
        env={**os.environ, "REXECUTOR_DATABASE_URL": "sqlite:///jobs.db"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (tmp_path / "jobs.db").exists()
