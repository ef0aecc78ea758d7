"""Queries over HTTP: the tree, its limits and its pages."""

from typing import Any

import httpx2
import pytest

from tests.api.wire import enqueue, pointers, problem


async def find(api: httpx2.AsyncClient, query: Any, **members: Any) -> list[int]:
    answer = await api.post("/v1/jobs/query", json={"query": query, **members})
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"and": []}, [2, 1]),
        ({"or": []}, []),
        ({"not": {"or": []}}, [2, 1]),
        ({"executor_equal": "mail"}, [1]),
        ({"executor_equal": "no/name"}, []),
        ({"data_equals": {"b": 1, "a": [1.0, "x"]}}, [1]),
        ({"data_equals": None}, [2]),
        ({"metadata_equals": 7.0}, [2]),
        ({"id_equals": 2}, [2]),
        ({"id_in": [1, 2, 3]}, [2, 1]),
        ({"id_in": []}, []),
        ({"status_equal": "scheduled"}, [2, 1]),
        ({"tags_all_of": ["a", "b"]}, [1]),
        ({"tags_all_of": []}, [2, 1]),
        ({"tags_one_of": ["b", "c"]}, [2, 1]),
        ({"tags_one_of": []}, []),
        ({"scheduled_at_before": "2030-01-01T00:00:00Z"}, [1]),
        ({"scheduled_at_after": "2030-01-01T00:00:00Z"}, []),
        ({"scheduled_at_equal": "2030-01-01T01:00:00+01:00"}, [2]),
        ({"or": [{"and": [{"id_equals": 1}, {"not": {"executor_equal": "mail"}}]}, {"id_equals": 2}]}, [2]),
    ],
)
async def test_a_tree_finds_what_it_describes(api: httpx2.AsyncClient, query: Any, found: list[int]) -> None:
    await enqueue(api, data={"a": [1, "x"], "b": 1.0}, tags=["a", "b"])
    await enqueue(api, "other", metadata=7, tags=["c"], scheduled_at="2030-01-01T00:00:00Z")
    assert await find(api, query) == found


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        (None, "/query"),
        ([], "/query"),
        ({}, "/query"),
        ({"and": [], "or": []}, "/query"),
        ({"unknown": 1}, "/query"),
        ({"and": {}}, "/query/and"),
        ({"and": [{"or": [{"id_equals": "1"}]}]}, "/query/and/0/or/0/id_equals"),
        ({"not": []}, "/query/not"),
        ({"id_equals": 1.0}, "/query/id_equals"),
        ({"id_equals": True}, "/query/id_equals"),
        ({"id_equals": 2**63}, "/query/id_equals"),
        ({"id_in": 1}, "/query/id_in"),
        ({"id_in": [1, None]}, "/query/id_in/1"),
        ({"status_equal": "gone"}, "/query/status_equal"),
        ({"executor_equal": "\0"}, "/query/executor_equal"),
        ({"tags_one_of": ["a", 1]}, "/query/tags_one_of/1"),
        ({"scheduled_at_before": "2030-01-01T00:00:00"}, "/query/scheduled_at_before"),
        ({"scheduled_at_after": "2201-01-01T00:00:00Z"}, "/query/scheduled_at_after"),
        ({"data_equals": 2**64}, "/query/data_equals"),
        ({"metadata_equals": ["\0"]}, "/query/metadata_equals"),
    ],
)
async def test_a_wrong_tree_is_422_and_named(api: httpx2.AsyncClient, query: Any, pointer: str) -> None:
    answer = await api.post("/v1/jobs/query", json={"query": query})
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == [pointer]


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"limit": 0}, "/limit"),
        ({"limit": 1001}, "/limit"),
        ({"limit": None}, "/limit"),
        ({"cursor": ""}, "/cursor"),
        ({"cursor": "rubbish"}, "/cursor"),
        ({"cursor": "YmVsb3c6MQ"}, "/cursor"),
        ({"cursor": "é"}, "/cursor"),
        ({"cursor": 7}, "/cursor"),
        ({"cursor": "YmVsb3c6OTk5OTk5OTk5OTk5OTk5OTk5OQ=="}, "/cursor"),
    ],
)
async def test_a_wrong_page_is_422(api: httpx2.AsyncClient, members: dict[str, Any], pointer: str) -> None:
    answer = await api.post("/v1/jobs/query", json={"query": {"and": []}, **members})
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == [pointer]


def nested(depth: int) -> Any:
    query: Any = {"id_equals": 1}
    for _ in range(depth - 1):
        query = {"not": query}
    return query


TOO_COMPLEX: dict[str, Any] = {
    "33 deep": nested(33),
    "5,000 deep": None,
    "501 nodes": {"or": [{"id_equals": 1}] * 500},
    "10,001 values": {"id_in": [1] * 10_001},
    "10,001 values in two lists": {"or": [{"id_in": [1] * 5_000}, {"tags_one_of": ["a"] * 5_001}]},
}


@pytest.mark.parametrize("name", TOO_COMPLEX)
async def test_a_query_beyond_the_limits_is_too_complex(api: httpx2.AsyncClient, name: str) -> None:
    if name == "5,000 deep":
        body = b'{"query":' + b'{"not":' * 5000 + b'{"and":[]}' + b"}" * 5001
        answer = await api.post("/v1/jobs/query", content=body, headers={"content-type": "application/json"})
    else:
        answer = await api.post("/v1/jobs/query", json={"query": TOO_COMPLEX[name]})
    assert problem(answer) == (422, "query-too-complex")


@pytest.mark.parametrize("query", [nested(32), {"or": [{"id_equals": 1}] * 499}, {"id_in": [1] * 10_000}])
async def test_a_query_at_the_limits_is_answered(api: httpx2.AsyncClient, query: Any) -> None:
    await find(api, query)


async def test_pages_lead_from_one_to_the_next(api: httpx2.AsyncClient) -> None:
    await api.post("/v1/jobs/bulk", json={"jobs": [{"executor": "mail"}] * 5})
    pages: list[list[int]] = []
    cursor = None
    while True:
        page = (await api.post("/v1/jobs/query", json={"query": {"and": []}, "limit": 2, "cursor": cursor})).json()
        pages.append([job["id"] for job in page["jobs"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == [[5, 4], [3, 2], [1]]


async def test_a_page_ends_early_when_it_is_large(api: httpx2.AsyncClient) -> None:
    await api.post("/v1/jobs/bulk", json={"jobs": [{"executor": "mail", "data": "x" * 500_000}] * 20})
    answer = await api.post("/v1/jobs/query", json={"query": {"and": []}})
    assert len(answer.content) <= 8 * 1024 * 1024 + 100
    page = answer.json()
    assert page["jobs"]
    rest = await find(api, {"and": []}, cursor=page["next_cursor"])
    assert [job["id"] for job in page["jobs"]] + rest == list(range(20, 0, -1))
