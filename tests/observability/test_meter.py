"""What the meter puts aside is on the next page, and never grows without bound."""

from app.observability.exposition import render
from app.observability.meter import Meter
from app.observability.metrics import CLAIMED
from app.observability.tally import Tally
from tests.metrics import Page

MANY = 1_000


def page_of(meter: Meter) -> Page:
    return Page(render(meter.snapshot([])).decode())


def test_each_answer_and_each_commit_is_on_the_page_once():
    meter = Meter()
    for count in range(MANY):
        meter.answered("enqueue", 201, 2_000)
        meter.answered("enqueue", 503, None)
        tally = Tally(writes=2, commit_microseconds=1_000)
        tally.count(CLAIMED, "mail", by=3)
        meter.committed(tally)
        if count in {1, MANY // 2}:
            page_of(meter)
    page = page_of(meter)
    assert page.by("status", "http_requests_total", operation="enqueue") == {"201": MANY, "503": MANY}
    assert page.value("http_request_seconds_count", operation="enqueue") == MANY
    assert page.value("jobs_claimed_total", executor="mail") == 3 * MANY
    assert (page.value("commit_writes_sum"), page.value("commit_seconds_count")) == (2 * MANY, MANY)
    assert page_of(meter).values == page.values


def test_what_is_put_aside_stays_little():
    meter = Meter()
    for number in range(MANY):
        meter.answered("enqueue", 201, 1)
        tally = Tally()
        for executor in range(MANY if number % 100 == 0 else 1):
            tally.count(CLAIMED, f"executor-{executor}")
        meter.committed(tally)
        assert len(meter._new_answers) < 256
        assert sum(len(each.counts) for each in meter._new_tallies) < 1_000
    assert len(meter._counts) == 201
