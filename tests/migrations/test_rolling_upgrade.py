"""A server of the schema's previous revision goes on under load while the schema moves on, and beside a new server."""

import asyncio
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.store import migrations
from tests.end_to_end.server import ROOT, Server, run_command
from tests.history.load import Load
from tests.postgres import run

VERSIONS = Path("alembic", "versions")
LOAD_JOBS = 60
PATIENCE_SECONDS = 60


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, timeout=60).stdout


def commit_of_previous_revision() -> str:
    """The newest commit whose schema is not the present one: the one before the present revision came."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git history here: an earlier version cannot be built")
    (head,) = (ROOT / VERSIONS).glob(f"{migrations.head()}_*.py")
    came = git("log", "--format=%H %P", "--diff-filter=A", "-1", "--", str(VERSIONS / head.name)).split()
    if not came:
        return "HEAD"  # it is not committed yet
    if len(came) < 2:
        pytest.skip("the git history here begins at the present revision: an earlier version cannot be built")
    return came[1].decode()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> str:
    """The command of the earlier version, installed from its wheel, with what it needs from this environment."""
    commit = commit_of_previous_revision()
    folder = tmp_path_factory.mktemp("earlier")
    source = folder / "source"
    source.mkdir()
    subprocess.run(["tar", "--extract"], cwd=source, input=git("archive", commit), check=True, timeout=60)
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(source)]
    subprocess.run(build, check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    into = ["--python", str(venv / "bin" / "python"), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *into], check=True, timeout=60)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return os.fspath(venv / "bin" / "rexecutor")


@pytest.mark.slow
async def test_earlier_server_works_on_while_the_schema_moves_on_and_beside_a_new_one(tmp_path, postgres, earlier):
    settings = {"lease_seconds": 2, "log_level": "WARNING"}
    (tmp_path / "new").mkdir()
    async with AsyncExitStack() as stack:
        url = stack.enter_context(postgres.database(schema=False))
        old = Server(tmp_path, command=(earlier,), database_url=url, **settings)
        new = Server(tmp_path / "new", database_url=url, migrate="false", **settings)
        await asyncio.to_thread(old.start)
        stack.push_async_callback(asyncio.to_thread, old.stop)
        before = revision(url)
        load = await stack.enter_async_context(Load(tmp_path))
        await load.begin_at(old)
        await until(load, LOAD_JOBS)
        told = await asyncio.to_thread(run_command, "migrate", database_url=url)
        assert told.returncode == 0, told.stderr
        assert revision(url) == migrations.head() != before
        await until(load, load.enqueued + LOAD_JOBS)
        await asyncio.to_thread(new.start)
        stack.push_async_callback(asyncio.to_thread, new.stop)
        await load.begin_at(new)
        await until(load, load.enqueued + LOAD_JOBS)
        await load.settle()
    assert old.failures() + new.failures() == []
    seen = load.judge()
    print(f"from {before} to {migrations.head()}: {dict(seen)}")
    assert seen["unknown"] == 0
    assert seen["deliveries"] > 2 * LOAD_JOBS


def revision(url: str) -> str:
    return str(run(url, "SELECT version_num FROM alembic_version")[0][0])


async def until(load: Load, enqueued: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while load.enqueued < enqueued:
            await asyncio.sleep(0.05)  # the load itself
