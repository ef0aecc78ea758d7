"""`make run-postgres`, from its start to Ctrl-C."""

import re
import signal
import subprocess
import sys

import httpx2
import pytest

from tests.end_to_end.server import ROOT, environment

SECONDS = 60


@pytest.mark.timeout(120)
def test_job_enqueued_at_the_one_is_claimed_at_the_other_and_ctrl_c_ends_all():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.try_postgres", "0", "0"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    one, other = re.findall(r"^server [AB] +(\S+)", said, flags=re.MULTILINE)
    with httpx2.Client(timeout=SECONDS) as client:
        job_id = client.post(f"{one}/v1/jobs", json={"executor": "mail", "data": 1}).json()["id"]
        (job,) = client.post(f"{other}/v1/executors/mail/claim", json={"wait": 20}).json()["jobs"]
        assert job["id"] == job_id
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert process.stdout.read().strip() == "ended"
        process.stdout.close()
        for url in (one, other):
            with pytest.raises(httpx2.ConnectError):
                client.get(f"{url}/livez")
