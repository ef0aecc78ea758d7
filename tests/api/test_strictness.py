"""What a body must be: the conventions of the contract, at the edge."""

import json
from typing import Any

import httpx2
import pytest

from tests.api.wire import enqueue, get, pointers, problem, send

MALFORMED = {
    "empty": b"",
    "space": b" ",
    "no JSON": b"executor=mail",
    "trailing garbage": b'{"executor":"mail"} x',
    "two values": b'{"executor":"mail"}{}',
    "trailing comma": b'{"executor":"mail",}',
    "cut": b'{"executor":"mail"',
    "byte order mark": b'\xef\xbb\xbf{"executor":"mail"}',
    "UTF-16": '{"executor":"mail"}'.encode("utf-16"),
    "Latin-1": '{"executor":"mail","data":"é"}'.encode("latin-1"),
    "NaN": b'{"executor":"mail","data":NaN}',
    "Infinity": b'{"executor":"mail","data":Infinity}',
    "negative Infinity": b'{"executor":"mail","data":-Infinity}',
    "lone high surrogate": b'{"executor":"mail","data":"\\ud800"}',
    "lone low surrogate": b'{"executor":"mail","data":"\\udc00"}',
    "two high surrogates": b'{"executor":"mail","data":"\\ud83d\\ud83d"}',
    "encoded surrogate": b'{"executor":"mail","data":"\xed\xa0\x80"}',
    "lone surrogate in a key": b'{"executor":"mail","data":{"\\ud800":1}}',
    "lone surrogate in an unknown member": b'{"executor":"mail","unknown":"\\ud800"}',
    "wrong type, then garbage": b'{"executor":7,"data":NaN}',
    "unknown member, then a cut": b'{"unknown":7,"executor":"mail"',
    "number out of range, then a cut": b'{"executor":"mail","data":1e400',
    "very long integer, then a cut": b'{"executor":"mail","data":' + b"9" * 5000,
    "control character": b'{"executor":"mail","data":"a\nb"}',
    "leading zero": b'{"executor":"mail","data":01}',
    "single quotes": b"{'executor':'mail'}",
    "unbalanced brackets": b'{"executor":"mail","data":' + b"[" * 100_000,
    "wrongly closed brackets": b'{"executor":"mail","data":' + b"[" * 5000 + b"]" * 4999 + b"}}",
    "deep lone surrogate": b'{"executor":"mail","data":' + b"[" * 5000 + b'"\\ud800"' + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_no_json_in_unicode_is_400(api: httpx2.AsyncClient, name: str) -> None:
    assert problem(await send(api, "POST", "/v1/jobs", MALFORMED[name])) == (400, "malformed-json")


def body(**members: Any) -> bytes:
    return json.dumps({"executor": "mail", **members}, ensure_ascii=False).encode()


def criteria(**members: Any) -> bytes:
    return body(uniqueness_criteria=members)


INVALID: dict[str, tuple[bytes, str]] = {
    "no object": (b"[]", ""),
    "null": (b"null", ""),
    "no executor": (b"{}", ""),
    "executor not a string": (b'{"executor":7}', "/executor"),
    "executor null": (b'{"executor":null}', "/executor"),
    "executor empty": (b'{"executor":""}', "/executor"),
    "executor with a slash": (b'{"executor":"a/b"}', "/executor"),
    "executor with a line end": (b'{"executor":"mail\\n"}', "/executor"),
    "executor begins with a dot": (b'{"executor":".mail"}', "/executor"),
    "executor too long": (body(executor="x" * 256), "/executor"),
    "executor not ASCII": (body(executor="ünique"), "/executor"),
    "unknown member": (body(unknown=1), ""),
    "integer as string": (body(priority="7"), "/priority"),
    "integer as double": (b'{"executor":"mail","priority":7.0}', "/priority"),
    "integer as exponent": (b'{"executor":"mail","priority":1e1}', "/priority"),
    "integer as boolean": (body(priority=True), "/priority"),
    "integer null": (body(priority=None), "/priority"),
    "priority negative": (body(priority=-1), "/priority"),
    "priority too great": (body(priority=65_536), "/priority"),
    "priority far too great": (body(priority=10**30), "/priority"),
    "priority beyond a double": (b'{"executor":"mail","priority":1e400}', "/priority"),
    "max_attempts zero": (body(max_attempts=0), "/max_attempts"),
    "max_attempts too great": (body(max_attempts=65_536), "/max_attempts"),
    "tags null": (body(tags=None), "/tags"),
    "tags a string": (body(tags="a"), "/tags"),
    "tag not a string": (body(tags=["a", 7]), "/tags/1"),
    "tag too long": (body(tags=["a", "x" * 129]), "/tags/1"),
    "tag with U+0000": (body(tags=["a\0"]), "/tags/0"),
    "too many tags": (body(tags=["a"] * 33), "/tags"),
    "time naive": (body(scheduled_at="2030-01-01T00:00:00"), "/scheduled_at"),
    "time a date": (body(scheduled_at="2030-01-01"), "/scheduled_at"),
    "time a number": (body(scheduled_at=1_900_000_000), "/scheduled_at"),
    "time null": (body(scheduled_at=None), "/scheduled_at"),
    "time of no day": (body(scheduled_at="2030-02-30T00:00:00Z"), "/scheduled_at"),
    "time too early": (body(scheduled_at="1969-12-31T23:59:59Z"), "/scheduled_at"),
    "time too late": (body(scheduled_at="2201-01-01T00:00:00Z"), "/scheduled_at"),
    "time too late in UTC": (body(scheduled_at="2200-12-31T23:59:59-01:00"), "/scheduled_at"),
    "time and delay": (body(scheduled_at="2030-01-01T00:00:00Z", delay=1), "/delay"),
    "delay negative": (body(delay=-1), "/delay"),
    "delay in months": (body(delay="P1M"), "/delay"),
    "delay too long": (body(delay="P36526D"), "/delay"),
    "delay far too long": (body(delay=10**40), "/delay"),
    "delay of endless digits": (body(delay="PT" + "9" * 5000 + "S"), "/delay"),
    "delay boolean": (body(delay=True), "/delay"),
    "delay null": (body(delay=None), "/delay"),
    "U+0000 in data": (b'{"executor":"mail","data":"a\\u0000"}', "/data"),
    "U+0000 in a key of data": (b'{"executor":"mail","data":{"a\\u0000":1}}', "/data"),
    "integer beyond 64 bits in data": (body(data=[2**64]), "/data"),
    "integer below 64 bits in metadata": (body(metadata=-(2**63) - 1), "/metadata"),
    "number beyond a double in data": (b'{"executor":"mail","data":{"a":[1e400]}}', "/data"),
    "integer of thousands of digits": (b'{"executor":"mail","data":' + b"9" * 5000 + b"}", ""),
    "65 brackets": (b'{"executor":"mail","data":' + b"[" * 65 + b"]" * 65 + b"}", "/data"),
    "100,000 brackets": (b'{"executor":"mail","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    "payload too large": (body(data="x" * 300_000, metadata="x" * 300_000), "/data"),
    "payload too large in UTF-8": (body(data="é" * 300_000), "/data"),
    "criteria null": (body(uniqueness_criteria=None), "/uniqueness_criteria"),
    "criteria that constrain nothing": (criteria(), "/uniqueness_criteria"),
    "executor false constrains nothing": (criteria(executor=False), "/uniqueness_criteria"),
    "conflict alone constrains nothing": (criteria(on_conflict="do_nothing"), "/uniqueness_criteria"),
    "key null": (criteria(key=None), "/uniqueness_criteria/key"),
    "key of 1,025 characters": (criteria(key="x" * 1_025), "/uniqueness_criteria/key"),
    "key a double": (criteria(key=1.5), "/uniqueness_criteria/key"),
    "key beyond 64 bits": (criteria(key=2**63), "/uniqueness_criteria/key"),
    "key with U+0000": (criteria(key="\0"), "/uniqueness_criteria/key"),
    "duration of no unit": (criteria(duration="5"), "/uniqueness_criteria/duration"),
    "statuses empty": (criteria(statuses=[]), "/uniqueness_criteria/statuses"),
    "status unknown": (criteria(statuses=["scheduled", "gone"]), "/uniqueness_criteria/statuses/1"),
    "conflict unknown": (criteria(key=1, on_conflict="fail"), "/uniqueness_criteria/on_conflict"),
    "conflict null": (criteria(key=1, on_conflict=None), "/uniqueness_criteria/on_conflict"),
    "replace nothing": (criteria(key=1, on_conflict={"replace": []}), "/uniqueness_criteria/on_conflict/replace"),
    "replace unknown": (
        criteria(key=1, on_conflict={"replace": ["tags"]}),
        "/uniqueness_criteria/on_conflict/replace/0",
    ),
    "replace for no status": (
        criteria(key=1, on_conflict={"replace": ["data"], "for_statuses": []}),
        "/uniqueness_criteria/on_conflict/for_statuses",
    ),
}


@pytest.mark.parametrize("name", INVALID)
async def test_a_wrong_value_is_422_and_named(api: httpx2.AsyncClient, name: str) -> None:
    given, pointer = INVALID[name]
    answer = await send(api, "POST", "/v1/jobs", given)
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == [pointer]


@pytest.mark.parametrize("name", [name for name, (given, _) in INVALID.items() if given.startswith(b'{"executor"')])
async def test_a_bulk_refuses_what_a_single_enqueue_refuses_and_changes_nothing(
    api: httpx2.AsyncClient, name: str
) -> None:
    given, pointer = INVALID[name]
    answer = await send(api, "POST", "/v1/jobs/bulk", b'{"jobs":[{"executor":"mail"},' + given + b"]}")
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == [f"/jobs/1{pointer}" if pointer or name == "unknown member" else ""]
    assert (await api.get("/v1/executors")).json() == {"executors": []}


async def test_all_wrong_values_are_named_at_once(api: httpx2.AsyncClient) -> None:
    answer = await send(api, "POST", "/v1/jobs", b'{"priority":"7","max_attempts":0,"unknown":1,"tags":["a",1,2]}')
    assert pointers(answer) == ["", "", "/max_attempts", "/tags/1", "/tags/2", "/priority"]


@pytest.mark.parametrize(
    "given",
    [
        b'{"executor":"mail","s3cret":1}',
        b'{"executor":"s3cret/"}',
        b'{"executor":"mail","uniqueness_criteria":{"statuses":["s3cret"]}}',
        b'{"executor":"mail","scheduled_at":"s3cret"}',
        b'{"executor":"mail","delay":"s3cret"}',
        b'{"executor":"mail","tags":{"s3cret":1}}',
        b'{"executor":"mail","data":{"s3cret":1e400}}',
        b'{"executor":"mail","s3cret` - at `$.s3cret":1}',
        b"s3cret",
    ],
)
async def test_no_problem_repeats_what_the_client_sent(api: httpx2.AsyncClient, given: bytes) -> None:
    answer = await send(api, "POST", "/v1/jobs", given)
    assert answer.status_code in {400, 422}
    assert "s3cret" not in answer.text


ACCEPTED: dict[str, bytes] = {
    "least": body(),
    "longest executor": body(executor="_" + "x" * 254),
    "all signs of an executor": body(executor="A1._:-z"),
    "greatest numbers": body(priority=65_535, max_attempts=65_535),
    "first instant": body(scheduled_at="1970-01-01T00:00:00Z"),
    "last instant": body(scheduled_at="2200-12-31T23:59:59.9999999Z"),
    "offset": body(scheduled_at="2030-01-01T00:00:00+14:00"),
    "delay in weeks": body(delay="P2W"),
    "delay in seconds": body(delay=1.5),
    "longest delay": body(delay="P36525D"),
    "32 tags": body(tags=["x" * 128] * 32),
    "64 brackets": b'{"executor":"mail","data":' + b"[" * 64 + b"]" * 64 + b"}",
    "greatest integer in data": body(data=2**64 - 1),
    "surrogate pair": b'{"executor":"mail","data":"\\ud83d\\ude00"}',
    "escaped backslash before ud800": b'{"executor":"mail","data":"\\\\ud800"}',
    "greatest payload": body(data="x" * (512 * 1024 - 2 - len("null"))),
    "empty key": criteria(key=""),
    "longest key": criteria(key="x" * 1_024),
    "key of 64 bits": criteria(key=-(2**63)),
    "statuses alone": criteria(statuses=["complete"]),
    "last of doubled members counts": b'{"executor":7,"executor":"mail"}',
    "last of doubled data counts": b'{"executor":"mail","data":1e400,"data":1}',
    "space around": b' \r\n\t{"executor":"mail"} \n',
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_what_is_within_the_limits_is_accepted(api: httpx2.AsyncClient, name: str) -> None:
    answer = await send(api, "POST", "/v1/jobs", ACCEPTED[name])
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "-0",
        "1",
        "1.0",
        "-0.0",
        "1e5",
        "1E-7",
        "18446744073709551615",
        "-9223372036854775808",
        "0.1",
        "1e308",
        "5e-324",
    ],
)
async def test_numbers_come_back_as_what_they_were(api: httpx2.AsyncClient, value: str) -> None:
    await send(api, "POST", "/v1/jobs", b'{"executor":"mail","data":%b}' % value.encode())
    stored = (await get(api, 1))["data"]
    assert stored == json.loads(value)
    assert type(stored) is type(json.loads(value))


async def test_what_the_service_answered_may_be_sent_back(api: httpx2.AsyncClient) -> None:
    data = {"é": ["\u2028", 1.0, None, True, {"": []}], "b": 2**64 - 1}
    job = await get(api, await enqueue(api, data=data, metadata=[data]))
    answer = await api.patch(
        "/v1/jobs/1", json={name: job[name] for name in ("data", "metadata", "scheduled_at", "tags")}
    )
    assert {**answer.json(), "version": 0} == {**job, "version": 0}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json ; profile=x; charset=utf-8",
    ],
)
async def test_json_in_utf_8_is_taken(api: httpx2.AsyncClient, content_type: str) -> None:
    assert (await send(api, "POST", "/v1/jobs", body(), **{"content-type": content_type})).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/merge-patch+json",
        "application/jsonp",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/json; charset=utf-8; charset=latin-1",
        "application/json, text/plain",
        "multipart/form-data; boundary=x",
    ],
)
async def test_a_body_of_another_media_type_is_415(api: httpx2.AsyncClient, content_type: str) -> None:
    answer = await send(api, "POST", "/v1/jobs", body(), **{"content-type": content_type})
    assert problem(answer) == (415, "unsupported-media-type")


async def test_a_body_without_a_media_type_is_415(api: httpx2.AsyncClient) -> None:
    assert problem(await api.post("/v1/jobs", content=body())) == (415, "unsupported-media-type")


async def test_a_compressed_body_is_415(api: httpx2.AsyncClient) -> None:
    answer = await send(api, "POST", "/v1/jobs", body(), **{"content-encoding": "gzip"})
    assert problem(answer) == (415, "unsupported-media-type")


async def test_a_body_beyond_its_limit_is_413_and_not_read_on(api: httpx2.AsyncClient) -> None:
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield b" " * 100_000

    answer = await api.post("/v1/jobs", content=endless(), headers={"content-type": "application/json"})
    assert problem(answer) == (413, "body-too-large")
    assert read < 20


async def test_a_declared_length_beyond_the_limit_is_413_before_anything_is_read(api: httpx2.AsyncClient) -> None:
    answer = await send(api, "POST", "/v1/jobs", b" " * (1024 * 1024 + 1))
    assert problem(answer) == (413, "body-too-large")
    assert answer.json()["limit_bytes"] == 1024 * 1024


async def test_a_body_as_long_as_its_limit_is_read(api: httpx2.AsyncClient) -> None:
    assert (await send(api, "POST", "/v1/jobs", body().ljust(1024 * 1024))).status_code == 201


async def test_a_bulk_may_be_longer_than_other_bodies(api: httpx2.AsyncClient) -> None:
    jobs = b",".join([body(data="x" * 300_000)] * 5)
    assert (await send(api, "POST", "/v1/jobs/bulk", b'{"jobs":[%b]}' % jobs)).status_code == 200
    answer = await send(api, "POST", "/v1/jobs/bulk", b" " * (32 * 1024 * 1024 + 1))
    assert problem(answer) == (413, "body-too-large")


async def test_a_bulk_of_too_many_jobs_is_422(api: httpx2.AsyncClient) -> None:
    answer = await send(api, "POST", "/v1/jobs/bulk", b'{"jobs":[%b]}' % b",".join([body()] * 10_001))
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == ["/jobs"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/v1/jobs/1"),
        ("POST", "/v1/jobs/1/complete"),
        ("POST", "/v1/jobs/1/rerun"),
        ("POST", "/v1/executors/mail/claim"),
    ],
)
async def test_an_empty_body_stands_for_an_object_where_nothing_is_required(
    api: httpx2.AsyncClient, method: str, path: str
) -> None:
    await enqueue(api)
    assert (await api.request(method, path)).status_code == 200


@pytest.mark.parametrize("path", ["retry", "discard", "cancel", "snooze", "release", "heartbeat"])
async def test_an_empty_body_is_no_json_where_something_is_required(api: httpx2.AsyncClient, path: str) -> None:
    await enqueue(api)
    assert problem(await api.post(f"/v1/jobs/1/{path}")) == (400, "malformed-json")


@pytest.mark.parametrize(
    ("path", "given", "pointer"),
    [
        ("complete", {"fence": None}, "/fence"),
        ("complete", {"fence": "1"}, "/fence"),
        ("complete", {"fence": -1}, "/fence"),
        ("complete", {"fence": 2**63}, "/fence"),
        ("complete", {"unknown": 1}, ""),
        ("retry", {"error": {"error_type": "e", "message": "m"}}, ""),
        ("retry", {"delay": 1}, ""),
        ("retry", {"delay": 1, "error": {"error_type": "e"}}, "/error"),
        ("retry", {"delay": 1, "error": {"error_type": 7, "message": "m"}}, "/error/error_type"),
        ("retry", {"delay": -1, "error": {"error_type": "e", "message": "m"}}, "/delay"),
        (
            "retry",
            {"next_scheduled_at": "1969-01-01T00:00:00Z", "error": {"error_type": "e", "message": "m"}},
            "/next_scheduled_at",
        ),
        ("discard", {}, ""),
        ("cancel", {"error": None}, "/error"),
        ("snooze", {}, ""),
        ("snooze", {"next_scheduled_at": "2030-01-01T00:00:00Z", "delay": 1}, "/delay"),
        ("snooze", {"next_scheduled_at": "2030-01-01T00:00:00"}, "/next_scheduled_at"),
        ("release", {}, ""),
        ("heartbeat", {}, ""),
        ("heartbeat", {"fence": 1, "lease": 0.999}, "/lease"),
        ("heartbeat", {"fence": 1, "lease": "PT12H1S"}, "/lease"),
        ("rerun", {"force": 1}, "/force"),
        ("rerun", {"force": None}, "/force"),
    ],
)
async def test_a_body_is_validated_before_its_job_is_looked_up(
    api: httpx2.AsyncClient, path: str, given: dict[str, Any], pointer: str
) -> None:
    answer = await api.post(f"/v1/jobs/404/{path}", json=given)
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == [pointer]


@pytest.mark.parametrize("given", ["0", "-1", "404", "007", "9223372036854775807", "-9223372036854775808"])
async def test_any_64_bit_integer_that_names_no_job_is_404(api: httpx2.AsyncClient, given: str) -> None:
    answer = await api.get(f"/v1/jobs/{given}")
    assert problem(answer) == (404, "job-not-found")
    assert answer.json()["job_id"] == int(given)


@pytest.mark.parametrize(
    "given", ["x", "1.0", "+1", "--1", "1_0", "%201", "1%0A", "9223372036854775808", "1e3", "%D9%A1"]
)
async def test_what_is_no_64_bit_integer_is_no_id(api: httpx2.AsyncClient, given: str) -> None:
    assert problem(await api.get(f"/v1/jobs/{given}")) == (422, "validation-error")


@pytest.mark.parametrize("given", [".mail", "a%20b", "mail%0A", "%C3%A9", "x" * 256])
async def test_an_executor_in_the_path_is_checked(api: httpx2.AsyncClient, given: str) -> None:
    assert problem(await api.post(f"/v1/executors/{given}/claim")) == (422, "validation-error")
