"""`rexecutor jobs`: looking at jobs and changing them."""

from datetime import timedelta

import httpx2
import pytest

from rexecutor_client.job import EnqueuableJob, ExecutionError
from rexecutor_client.where import Where

NOWHERE = 2**62


@pytest.fixture
def new_job(client, executor):
    def enqueue(data=None, **options):
        return client.enqueue(EnqueuableJob(executor=executor, data=data, **options)).id

    return enqueue


def ids(ran):
    return [job["id"] for job in ran.lines]


def test_list_shows_the_latest_first_and_tells_that_there_are_more(rex, new_job, executor):
    first, second, third = new_job(1), new_job({"a": [1]}, tags=["x"], priority=7), new_job(3)
    ran = rex("jobs", "list", "--executor", executor, "--limit", 2)
    heading, *rows = ran.out.splitlines()
    assert heading.split() == ["ID", "EXECUTOR", "STATUS", "ATTEMPT", "PRIORITY", "SCHEDULED", "AT", "TAGS", "DATA"]
    assert [int(row.split()[0]) for row in rows] == [third, second]
    assert rows[1].split()[1:5] == [executor, "scheduled", "0/5", "7"]
    assert rows[1].split()[-2:] == ["x", '{"a":[1]}']
    assert ran.err == "there are more than 2: --limit shows more\n"
    assert first < second


def test_list_of_nothing_says_so_beside_the_data(rex, executor):
    ran = rex("jobs", "list", "--executor", executor)
    assert (ran.code, ran.out, ran.err) == (0, "", "no such jobs\n")
    assert rex("jobs", "list", "--executor", executor, "--json").out == ""


def test_list_goes_on_over_pages(rex, client, executor):
    client.enqueue_many([EnqueuableJob(executor=executor)] * 1_200)
    assert len(ids(rex("jobs", "list", "--executor", executor, "--limit", 1_100, "--json"))) == 1_100


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--status", "cancelled"), "c"),
        (("--tag", "x", "--tag", "y"), "b"),
        (("--any-tag", "x", "--any-tag", "y"), "bc"),
        (("--data", '{"n": 1.0}'), "a"),
        (("--metadata", '"m"'), "b"),
        (("--after", "1h"), "abc"),
        (("--before", "1h"), ""),
        (("--before", "2090-01-01T00:00:00Z"), "abc"),
        (("--after", "2090-01-01T00:00:00Z"), ""),
        (("--where", '{"not": {"tags_one_of": ["x"]}}'), "a"),
        (("--tag", "x", "--status", "scheduled"), "b"),
    ],
    ids=str,
)
def test_list_filters(rex, new_job, client, executor, arguments, found):
    jobs = {"a": new_job({"n": 1}), "b": new_job(metadata="m", tags=["x", "y"]), "c": new_job(tags=["x"])}
    client.mark_job_cancelled(jobs["c"], ExecutionError("cancelled", "test"))
    ran = rex("jobs", "list", "--executor", executor, *arguments, "--json")
    assert ids(ran) == sorted((jobs[name] for name in found), reverse=True)


def test_list_filters_by_ids(rex, new_job):
    first, _, third = new_job(), new_job(), new_job()
    assert ids(rex("jobs", "list", "--id", first, "--id", third, "--json")) == [third, first]


@pytest.mark.parametrize("arguments", [("--where", "[]"), ("--limit", "0"), ("--limit", "-4"), ("--status", "done")])
def test_list_with_what_means_nothing_is_wrong_usage(rex, arguments):
    ran = rex("jobs", "list", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("rexecutor: ")


def test_show_shows_all_of_a_job_and_its_errors(rex, new_job, client):
    job_id = new_job({"long": "x" * 100}, metadata="m", tags=["a", "b"])
    client.mark_job_retryable(job_id, timedelta(hours=1), ExecutionError("panic", "line one\nline \x1b[31mtwo"))
    ran = rex("jobs", "show", job_id)
    members = dict(line.split(None, 1) for line in ran.out.split("\n\n")[0].splitlines() if line[:1] not in " }")
    assert (members["id"], members["status"], members["tags"]) == (str(job_id), "retryable", "a, b")
    assert (members["metadata"], members["attempted_at"]) == ('"m"', "-")
    assert f'\n{" " * 20}"long": "{"x" * 100}"\n' in ran.out
    assert ran.out.endswith("panic:\nline one\nline \\u001b[31mtwo\n")


def test_show_as_json_is_the_job_of_the_contract(rex, new_job, server):
    job_id = new_job({"a": 1})
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        assert rex("jobs", "show", job_id, "--json").json == http.get(f"/v1/jobs/{job_id}").json()


def test_cancel_goes_on_after_a_job_that_is_not_there(rex, new_job, client):
    first, second = new_job(), new_job()
    ran = rex("jobs", "cancel", first, NOWHERE, second, "--reason", "no need")
    assert ran.code == 1
    assert ran.out == f"{first} cancelled\n{second} cancelled\n"
    assert ran.err == f"rexecutor: job {NOWHERE}: No job has the id {NOWHERE}.\n"
    assert client.get_job(second).errors[0].details == "no need"


def test_cancel_of_what_is_cancelled_says_that_it_was(rex, new_job):
    job_id = new_job()
    assert [rex("jobs", "cancel", job_id).out for _ in range(2)] == [
        f"{job_id} cancelled\n",
        f"{job_id} cancelled (as before)\n",
    ]


def test_rerun_makes_a_cancelled_job_due(rex, new_job):
    job_id = new_job()
    rex("jobs", "cancel", job_id)
    assert rex("jobs", "rerun", job_id, "--json").lines == [{"id": job_id, "status": "scheduled", "duplicate": False}]


def test_rerun_takes_an_executing_job_only_with_force(rex, new_job, client, executor):
    job_id = new_job()
    client.claim_jobs(executor, lease=timedelta(minutes=1))
    assert rex("jobs", "rerun", job_id).code == 1
    assert rex("jobs", "rerun", job_id, "--force").code == 0


def test_snooze_lets_jobs_run_later(rex, new_job, client):
    job_id = new_job()
    assert rex("jobs", "snooze", job_id, "--until", "2090-01-02T00:00:00Z").out == f"{job_id} scheduled\n"
    assert client.get_job(job_id).scheduled_at.year == 2090
    assert rex("jobs", "snooze", job_id, "--delay", "1h").code == 0
    assert client.get_job(job_id).scheduled_at.year < 2090


def test_update_changes_what_is_named_and_nothing_else(rex, new_job, client):
    job_id = new_job({"a": 1}, tags=["x"], priority=3)
    ran = rex("jobs", "update", job_id, "--data", "null", "--max-attempts", 9, "--delay", "1h")
    assert ran.out == f"{job_id} updated, now at version 2\n"
    job = client.get_job(job_id)
    assert (job.data, job.max_attempts, job.tags, job.priority) == (None, 9, ["x"], 3)
    assert rex("jobs", "update", job_id, "--no-tags", "--json").json["tags"] == []


def test_update_of_a_job_that_has_changed_is_refused(rex, new_job):
    job_id = new_job()
    ran = rex("jobs", "update", job_id, "--priority", 1, "--version", 7)
    assert (ran.code, ran.out) == (1, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("cancel",),
        ("snooze", "1"),
        ("snooze", "1", "--delay", "1h", "--until", "2090-01-01"),
        ("update", "1"),
        ("update", "1", "--tag", "a", "--no-tags"),
        ("show", "one"),
        ("prune", "complete"),
        ("prune", "complete", "--max-age", "1d", "--max-length", "1"),
        ("prune", "complete", "--max-age", "1d", "--executor", "a", "--except-executor", "b"),
        ("watch",),
        ("watch", "1", "--executor", "mail"),
    ],
    ids=" ".join,
)
def test_what_is_not_said_is_wrong_usage(rex, arguments):
    ran = rex("jobs", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("rexecutor: ")


def test_prune_tells_how_many_it_would_delete_and_then_deletes_them(rex, client, executor):
    client.enqueue_many([EnqueuableJob(executor=executor, delay=timedelta(hours=1))] * 5)
    prune = "jobs", "prune", "scheduled", "--max-length", 2, "--executor", executor
    assert rex(*prune, "--dry-run").out == "3 would be deleted\n"
    assert rex(*prune, "--yes", "--json").json == {"deleted": 3, "dry_run": False}
    assert len([*client.jobs(Where.executor_equals(executor))]) == 2


def test_prune_without_a_terminal_deletes_nothing_unless_told_not_to_ask(rex, new_job, client, executor):
    job_id = new_job()
    ran = rex("jobs", "prune", "scheduled", "--max-length", 0, "--executor", executor, stdin="y\n")
    assert (ran.code, ran.out) == (2, "")
    assert "--yes" in ran.err
    assert client.get_job(job_id)


def test_watch_follows_a_job_until_it_has_ended(rex, new_job, client, executor):
    job_id = new_job()
    (job,) = client.claim_jobs(executor)
    client.mark_job_complete(job_id, fence=job.fence)
    ran = rex("jobs", "watch", job_id)
    assert (ran.code, ran.out) == (0, f"{job_id} complete, attempt 1/5\n")


def test_watch_of_what_is_not_complete_in_the_end_says_so(rex, new_job):
    job_id = new_job()
    rex("jobs", "cancel", job_id)
    ran = rex("jobs", "watch", job_id, "--json")
    assert (ran.code, ran.json["status"]) == (1, "cancelled")
    assert ran.err == f"rexecutor: job {job_id} was cancelled\n"


def test_watch_of_a_filter_that_finds_nothing_says_so(rex, executor):
    ran = rex("jobs", "watch", "--executor", executor)
    assert (ran.code, ran.out, ran.err) == (1, "", "rexecutor: no such job that has not ended\n")
