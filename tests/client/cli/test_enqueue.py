"""`rexecutor enqueue`."""

from datetime import UTC, datetime, timedelta

import pytest

from rexecutor_client.where import Where


def test_job_is_stored_as_the_options_say(rex, client, executor):
    ran = rex(
        *("enqueue", executor, '{"to":"ada"}', "--metadata", '["m"]', "--at", "2090-01-02T03:04:05+01:00"),
        *("--priority", 3, "--max-attempts", 7, "--tag", "a", "--tag", "b"),
    )
    assert (ran.code, ran.err) == (0, "")
    job_id, outcome = ran.out.split()
    assert outcome == "inserted"
    job = client.get_job(int(job_id))
    assert (job.executor, job.data, job.metadata) == (executor, {"to": "ada"}, ["m"])
    assert (job.priority, job.max_attempts, sorted(job.tags)) == (3, 7, ["a", "b"])
    assert job.scheduled_at == datetime(2090, 1, 2, 2, 4, 5, tzinfo=UTC)


def test_job_without_data_has_null(rex, client, executor):
    ran = rex("enqueue", executor, "--json")
    assert ran.json["outcome"] == "inserted"
    assert client.get_job(ran.json["id"]).data is None


def test_delay_counts_from_now(rex, client, executor):
    job = client.get_job(rex("enqueue", executor, "--delay", "2h30m", "--json").json["id"])
    assert job.scheduled_at - job.inserted_at == timedelta(hours=2, minutes=30)


@pytest.mark.parametrize("data", ["-3", '"text"', "null", "18446744073709551615", "1.0"])
def test_any_json_is_data(rex, client, executor, data):
    job = client.get_job(rex("enqueue", executor, data, "--json").json["id"])
    assert repr(job.data) == {"null": "None", '"text"': "'text'"}.get(data, data)


def test_dash_reads_the_data_from_stdin(rex, client, executor):
    ran = rex("enqueue", executor, "-", "--json", stdin='{"to": "ada"}\n')
    assert client.get_job(ran.json["id"]).data == {"to": "ada"}


def test_same_idempotency_key_enqueues_once(rex, executor):
    first, second = (rex("enqueue", executor, "--idempotency-key", executor).out for _ in range(2))
    assert first == second


def test_same_unique_key_is_a_duplicate(rex, executor):
    first, second = (rex("enqueue", executor, "--unique-key", executor, "--json").json for _ in range(2))
    assert [first["outcome"], second["outcome"]] == ["inserted", "existing"]
    assert first["id"] == second["id"]


def test_duplicate_takes_over_what_is_to_be_replaced(rex, client, executor):
    unique = "--unique-executor", "--unique-within", "1h", "--unique-status", "scheduled", "--replace", "data"
    rex("enqueue", executor, "1", *unique)
    ran = rex("enqueue", executor, "2", "--priority", 9, *unique, "--json")
    assert ran.json["outcome"] == "replaced"
    job = client.get_job(ran.json["id"])
    assert (job.data, job.priority) == (2, 0)


@pytest.mark.parametrize(
    "arguments",
    [("--at", "2090-01-01", "--delay", "1h"), ("--replace", "data"), ("1", "--lines"), ("--delay", "soon"), ("{",)],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_wrong_usage_and_enqueue_nothing(rex, client, executor, arguments):
    ran = rex("enqueue", executor, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("rexecutor: ")
    assert not [*client.jobs(Where.executor_equals(executor))]


def test_each_line_becomes_a_job_in_their_order(rex, client, executor):
    ran = rex("enqueue", executor, "--lines", "--tag", "many", stdin="\n".join(map(str, range(2_500))) + "\n\n")
    assert (ran.code, ran.out, ran.err) == (0, "2500 enqueued\n", "")
    jobs = [*client.jobs(Where.executor_equals(executor), page_size=1_000)]
    assert [job.data for job in reversed(jobs)] == [*range(2_500)]
    assert {tuple(job.tags) for job in jobs} == {("many",)}


def test_same_lines_with_the_same_key_are_enqueued_once(rex, client, executor):
    lines = "\n".join(map(str, range(1_500)))
    for _ in range(2):
        assert rex("enqueue", executor, "--lines", "--idempotency-key", executor, "--json", stdin=lines).json == {
            "enqueued": 1_500
        }
    assert len([*client.jobs(Where.executor_equals(executor), page_size=1_000)]) == 1_500


def test_large_lines_go_in_bulks_that_the_service_takes(rex, executor):
    line = '"' + "x" * 500_000 + '"\n'
    assert rex("enqueue", executor, "--lines", stdin=line * 70).out == "70 enqueued\n"


def test_line_that_is_no_json_is_named_and_what_went_before_is_told(rex, executor):
    ran = rex("enqueue", executor, "--lines", stdin="\n".join([*map(str, range(1_000)), "", "{"]))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[0] == "1000 jobs were enqueued before it failed"
    assert ran.err.splitlines()[1].startswith("rexecutor: line 1002 is no JSON")


def test_line_that_the_service_refuses_is_named(rex, client, executor):
    ran = rex("enqueue", executor, "--lines", stdin='1\n\n"' + "\\u0000" + '"\n')
    assert (ran.code, ran.out) == (1, "")
    assert "\n  line 3, /data: " in ran.err
    assert not [*client.jobs(Where.executor_equals(executor))]
