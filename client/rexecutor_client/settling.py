"""Says what is to be said of jobs, over whatever leads to the service just now, until it has answered."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from .async_client import AsyncClient
from .errors import JobProblem, Problem, RexecutorError, UnexpectedAnswer
from .json_text import NotJson
from .pauses import Pauses
from .settlement import Settlement, by_request, over_stream, release_of, repaired, without_words
from .subscription import Subscription, SubscriptionLost

_MAY_CHANGE = (401, 403, 408, 425, 429)
"""Refusals of the client's kind that are none of what was said."""
_TRIES = 3

_log = logging.getLogger("rexecutor")


class Settling:
    """Over the subscription of a line, or by request where there is none to be had; else it waits for either."""

    def __init__(self, client: AsyncClient) -> None:
        """Begin without a way to the service."""
        self._client = client
        self._subscription: Subscription | None = None
        self._by_request = False
        self._leads_there = asyncio.Event()

    def goes_over(self, subscription: Subscription) -> None:
        """Say it over this from now on."""
        self._subscription = subscription
        self._by_request = False
        self._leads_there.set()

    def goes_by_request(self) -> None:
        """Say it by request from now on."""
        self._by_request = True
        self._leads_there.set()

    def lost(self) -> None:
        """Wait from now on: the subscription is gone."""
        self._subscription = None
        self._leads_there.clear()

    async def say(self, settlement: Settlement) -> Settlement | None:
        """Say it until the service has answered, and return what it took at last.

        None if it came too late: that is logged, and the job is another's.
        """
        pauses = Pauses()
        unheard = 0
        while True:
            try:
                await self.said(settlement)
            except JobProblem as refusal:
                _log.warning("job %d: %s came too late: %s", settlement.job_id, settlement.kind, refusal)
                return None
            except SubscriptionLost:
                # The same fence makes the repeat harmless; without a connection it waits for the next.
                continue
            except RexecutorError as error:
                if _is_for_good(error):
                    _log.error(
                        "job %d: the service does not take this %s: %s", settlement.job_id, settlement.kind, error
                    )
                    if settlement.kind == "release":
                        return None
                    settlement = repaired(settlement, error) or release_of(settlement.job_id, settlement.fence)
                    continue
                _log.info("job %d: %s not taken yet: %s", settlement.job_id, settlement.kind, error)
                unheard += isinstance(error, UnexpectedAnswer)
                if unheard == _TRIES and settlement.has_words:
                    # Something between may take them for an attack.
                    _log.error("job %d: this does not get through: %s", settlement.job_id, settlement)
                    settlement = without_words(settlement)
                await pauses.wait(asked=error.retry_after if isinstance(error, Problem) else None)
            else:
                return settlement

    def said(self, settlement: Settlement) -> Awaitable[Any]:
        """Say it once. Raises what the service answers, SubscriptionLost when it is to be said again."""
        if self._by_request:
            return by_request(self._client, settlement)
        if self._subscription is not None and self._subscription.is_open:
            return over_stream(self._subscription, settlement)
        return self._wait_to_say()

    async def _wait_to_say(self) -> None:
        # What led there is lost, though nobody may have noticed yet.
        await asyncio.sleep(0)
        await self._leads_there.wait()
        raise SubscriptionLost(None, "there is a way again")


def _is_for_good(error: RexecutorError) -> bool:
    """Return whether saying the same again comes to the same."""
    if isinstance(error, Problem):
        return 400 <= error.status < 500 and error.status not in _MAY_CHANGE
    return isinstance(error, NotJson)
