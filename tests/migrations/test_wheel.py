"""What is installed from the two wheels: the server under its own name, with its migrations and pages inside."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

ROOT = Path(__file__).parents[2]

FOREIGN = "OWNER = 'the user'\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the files of the server's wheel, and a foreign package called app beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(folder), str(ROOT), str(ROOT / "client")], check=True, timeout=120)
    (wheel,) = folder.glob("rexecutor_server*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "app").mkdir()
    (site / "app" / "__init__.py").write_text(FOREIGN)
    return site


def test_wheel_holds_one_package_with_its_migrations_and_pages(installed):
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"rexecutor_server", "app"}
    package = installed / "rexecutor_server"
    assert (package / "alembic" / "env.py").exists()
    assert list((package / "alembic" / "versions").glob("0001*.py"))
    static = Path("api", "static")
    development = {path.relative_to(ROOT / "app") for path in (ROOT / "app" / static).rglob("*") if path.is_file()}
    assert {path.relative_to(package) for path in (package / static).rglob("*") if path.is_file()} == development
    assert {path.name for path in development} > {"swagger-ui-bundle.js", "redoc.standalone.js", "LICENSE"}
    assert (package / "py.typed").exists()


@pytest.fixture(scope="module")
def venv(installed, tmp_path_factory) -> Path:
    """A virtual environment with both wheels installed by pip, and what it needs from the development environment.

    A .pth file leads there, after the new environment's own folder. The import hook of the development install is not
    run: in a folder that a .pth file names no further .pth file counts.
    """
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    wheels = [str(wheel) for wheel in installed.parent.glob("*.whl")]
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", *wheels], check=True, timeout=60)
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copytree(installed / "app", site / "app")
    return folder


@contextmanager
def served(venv: Path, folder: Path) -> Iterator[str]:
    """`rexecutor serve` of the wheel on a new file, in a folder where a package called app would be found first."""
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").write_text(FOREIGN)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("REXECUTOR_", "PYTHON"))}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [venv / "bin" / "rexecutor", "serve", "--strict-settings"],
            cwd=folder,
            env={**own, "PYTHONPATH": str(folder), "REXECUTOR_PORT": "0", "REXECUTOR_DRAIN_SECONDS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout as stdout:
        try:
            told = stdout.readline()
            assert " serves http://" in told, (folder / "log").read_text()
            yield told.split()[2]
        finally:
            process.terminate()
            status = process.wait(30)
    assert status == 0


def test_serve_from_the_wheel_takes_jobs_and_shows_its_pages_beside_a_package_called_app(venv, tmp_path):
    with served(venv, tmp_path) as url, httpx2.Client(base_url=url, timeout=30, trust_env=False) as http:
        assert http.post("/v1/jobs", json={"executor": "mail"}).status_code == 201
        assert http.get("/readyz").status_code == 200
        for page in ("/docs", "/redoc", "/asyncapi", "/problems/stale-fence"):
            answer = http.get(page)
            assert answer.status_code == 200
            for link in re.findall(r'(?:src|href|spec-url)="([^"]+)"', answer.text):
                assert http.get(urljoin(page, link)).status_code == 200, link
        for name in ("openapi.json", "asyncapi.json"):
            assert http.get(f"/{name}").text == (ROOT / "openapi" / name).read_text()
    assert (tmp_path / "rexecutor.db").exists()
    assert '"level": "warning"' not in (tmp_path / "log").read_text()


def test_package_called_app_stays_the_users(venv, tmp_path):
    say = "import rexecutor_server.cli, app; print(app.OWNER, rexecutor_server.__file__)"
    answer = subprocess.run(
        [venv / "bin" / "python", "-c", say], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    owner, _, file = answer.stdout.strip().rpartition(" ")
    assert owner == "the user"
    assert Path(file).is_relative_to(venv)
