"""Whether a stream got no more jobs than it had granted credits for."""

from collections.abc import Iterator

from tests.history.facts import ConnectionLine, Facts
from tests.history.lines import Connected, Delivered, Requested, Revoked, Stopped


def over_credit(facts: Facts) -> Iterator[str]:
    """Give the deliveries beyond the credit, which is the most that it may have been by then."""
    for lines in facts.connections.values():
        yield from _over_credit(facts, lines)


def _over_credit(facts: Facts, lines: list[ConnectionLine]) -> Iterator[str]:
    credits = 0
    returns = False
    holding: list[tuple[int, int]] = []
    over: list[tuple[int, int]] = []
    requests: list[Requested] = []
    connection: Connected | None = None
    for line in lines:
        match line:
            case Connected():
                connection, credits, returns, holding = line, line.credits, line.returns, list(line.held)
            case Requested():
                credits += line.credits
                requests.append(line)
                returns = connection is not None and connection.returns
            case Stopped():
                since = [request.credits for request in requests if request.at >= line.asked_at]
                credits, returns = sum(since), returns and bool(since)
                # A credit that was counted early, and taken by the stop, may in truth come after it.
                holding += [each for each in over if not facts.had_ended_before(*each, line.asked_at)]
                over.clear()
            case Revoked():
                if (line.job_id, line.fence) in holding:
                    holding.remove((line.job_id, line.fence))
                    credits += returns
            case Delivered():
                if credits == 0 and returns:
                    still = [each for each in holding if not _may_be_over(facts, line, each)]
                    credits += len(holding) - len(still)
                    over += [each for each in holding if each not in still]
                    holding = still
                if credits == 0:
                    yield f"job {line.job_id}: fence {line.fence} delivered on {line.connection} without a credit"
                credits = max(credits - 1, 0)
                holding.append((line.job_id, line.fence))


def _may_be_over(facts: Facts, line: Delivered, held: tuple[int, int]) -> bool:
    """Whether a job may have ceased to be held by then: ended by a call, or its lease run out."""
    if facts.may_have_ended_before(*held, line.at):
        return True
    delivery = next((each for each in facts.deliveries[held[0]] if each.fence == held[1]), None)
    return delivery is None or facts.held_until(delivery, line.at) <= line.at
