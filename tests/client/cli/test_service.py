"""`rexecutor executors`, `status` and `bench`."""

from rexecutor_client.job import EnqueuableJob


def test_executors_are_listed_with_their_counts(rex, client, executor):
    client.enqueue_many([EnqueuableJob(executor=executor)] * 3)
    heading, *rows = rex("executors").out.splitlines()
    assert heading.split()[:3] == ["EXECUTOR", "SCHEDULED", "EXECUTING"]
    (row,) = (row.split() for row in rows if row.startswith(executor))
    assert row[1:8] == ["3", "0", "0", "0", "0", "0", "0"]
    assert row[9].endswith("Z")


def test_executors_as_json_are_those_of_the_contract(rex, client, executor):
    client.enqueue(EnqueuableJob(executor=executor))
    (found,) = (each for each in rex("executors", "--json").json["executors"] if each["executor"] == executor)
    assert found["counts"]["scheduled"] == 1


def test_status_where_there_is_no_terminal_is_shown_once(rex, server):
    ran = rex("status")
    assert ran.code == 0
    assert ran.out.splitlines()[0] == f"{server.url}  version 0.1.0  ready"


def test_status_as_json_tells_what_the_service_is(rex, server):
    told = rex("status", "--json").json
    assert (told["url"], told["ready"], told["protocol"]) == (server.url, True, 1)
    assert isinstance(told["executors"], list)


def test_bench_prints_rates_and_leaves_nothing_behind(rex, client):
    told = rex("bench", "--jobs", 200, "--concurrency", 10, "--json").json
    assert told["jobs"] == 200
    assert min(told.values()) > 0
    assert not [each for each in client.list_executors() if each.executor.startswith("bench-")]


def test_bench_of_no_jobs_is_wrong_usage(rex):
    assert rex("bench", "--jobs", 0).code == 2
