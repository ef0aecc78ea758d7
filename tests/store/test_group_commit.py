"""How much work shares a transaction."""

import asyncio
from typing import Any

from app.store.group_commit import MAX_ITEMS_PER_COMMIT, GroupCommit


def same(_transaction: object, items: list[Any]) -> list[Any]:
    return items


async def test_items_that_stand_for_many_rows_count_as_many():
    commit: GroupCommit[None] = GroupCommit()
    half = MAX_ITEMS_PER_COMMIT // 2
    waiting = [asyncio.ensure_future(commit.submit(same, ["bulk"], size=half)) for _ in range(3)]
    await asyncio.sleep(0)
    batches = [commit.take() or [], commit.take() or []]
    assert [[member.size for member in batch] for batch in batches] == [[half, half], [half]]
    for task in waiting:
        task.cancel()
