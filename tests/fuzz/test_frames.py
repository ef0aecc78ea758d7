"""No frame, however odd, makes the server fall over, close with an unknown code or forget an answer."""

import itertools
import json
from collections import Counter
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from tests.api.stream_schemas import faults_of
from tests.end_to_end.server import Server
from tests.fuzz.client_frames import Plan, conversations, text_of
from tests.fuzz.effort import TIMEOUT_SECONDS, rounds
from tests.fuzz.raw_socket import CLOSE, PING, RawSocket
from tests.postgres import empty

JOBS = 3
NORMAL = (1000).to_bytes(2, "big")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    url = f"sqlite:///{folder}/jobs.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_database")
        empty(url)
    # A lease that no test outlives, however slow the machine: silence is not the matter here.
    with Server(folder, database_url=url, lease_seconds=60, log_level="WARNING").running() as server:
        yield server


@pytest.fixture(scope="module")
def http(server):
    with httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.mark.timeout(TIMEOUT_SECONDS)
# The grammar is large, and hypothesis may describe it.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_frames_get_their_answers_or_their_close_code(server, http):
    numbers = itertools.count()

    def talk(conversation, batch):
        number = next(numbers)
        converse(server, http, f"fuzz-{number}", *conversation, batch=batch)
        work_normally(server, http, f"normal-{number}")

    # An answer that is missing is waited for: to shrink what lost it would take hours.
    # The frames are the same: what the other database makes of them is to be seen.
    examples = 150 if "sqlite" in server.settings["database_url"] else 60
    for effort in rounds(examples, phases=[Phase.generate]):
        effort(given(conversation=conversations, batch=st.booleans())(talk))()


def converse(server, http, executor: str, plans: list[Plan], ending: Plan | None, *, batch: bool) -> None:
    enqueue(http, executor, JOBS)
    with RawSocket(
        server.settings["port"], f"/v1/executors/{executor}/subscribe?prefetch={JOBS}&batch={batch}".lower()
    ) as socket:
        assert socket.status == 101
        talk = Conversation(socket)
        while len(talk.held) < JOBS:
            assert talk.read()
        for plan in plans:
            talk.send(plan)
        if ending is None:
            talk.send(Plan(messages=[{"type": "stop", "ref": ""}]))
            while not talk.is_answered():
                assert talk.read(), f"closed with {socket.close_code}"
            socket.send(CLOSE, NORMAL)
        else:
            talk.send(ending)
        while talk.read():
            pass
        assert socket.close_code == (1000 if ending is None else ending.closes)
        assert max(talk.results.values(), default=1) == 1
        assert talk.results.keys() <= talk.references


class Conversation:
    """What was sent, and what came."""

    def __init__(self, socket: RawSocket) -> None:
        self._socket = socket
        self.held: list[dict[str, Any]] = []
        self.references: set[str] = set()
        self.results: Counter[str] = Counter()
        self._sent = 0

    def is_answered(self) -> bool:
        return self.results.keys() >= self.references

    def send(self, plan: Plan) -> None:
        """Send a frame; all its messages are about one job, the next frame's about another."""
        payload = plan.payload
        if payload is None:
            messages = [self._addressed(message) for message in plan.messages]
            payload = text_of(messages if plan.is_list else messages[0]).encode()
            self._sent += 1
        size = -(-len(payload) // plan.pieces) or 1
        pieces = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
        for place, piece in enumerate(pieces):
            is_last = place == len(pieces) - 1
            if not self._socket.send(plan.opcode if place == 0 else 0, piece, is_last=is_last):
                return
            if not is_last:
                self._socket.send(PING, b"between")

    def read(self) -> bool:
        """Take the next frame; return whether there was one."""
        text = self._socket.next_text()
        if text is None:
            return False
        frame = json.loads(text)
        for message in frame if isinstance(frame, list) else [frame]:
            assert not faults_of(message), message
            if message["type"] == "job":
                self.held.append(message["job"])
            elif message["type"] == "result" and "ref" in message:
                self.results[message["ref"]] += 1
        return True

    def _addressed(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message with its own reference, and with the id and fence of a job."""
        job = self.held[self._sent % len(self.held)]
        names = {"held": job["id"], "absent": 2**62, "its": job["fence"], "former": job["fence"] - 1}
        message = {
            name: names.get(value, value) if name in {"id", "fence"} and type(value) is str else value
            for name, value in message.items()
        }
        if message.get("ref") == "":
            message["ref"] = f"ref {len(self.references)}"
            self.references.add(message["ref"])
        return message


def work_normally(server, http, executor: str) -> None:
    """One more worker does its work as if nothing had been, and repeats its word."""
    (job_id,) = enqueue(http, executor, 1)
    with RawSocket(server.settings["port"], f"/v1/executors/{executor}/subscribe?prefetch=1") as socket:
        talk = Conversation(socket)
        while not talk.held:
            assert talk.read()
        complete = {"type": "complete", "id": "held", "fence": "its", "ref": ""}
        talk.send(Plan(messages=[complete, complete], is_list=True))
        while not talk.is_answered():
            assert talk.read()
    assert http.get(f"/v1/jobs/{job_id}").json()["status"] == "complete"


def enqueue(http, executor: str, count: int) -> list[int]:
    answer = http.post("/v1/jobs/bulk", json={"jobs": [{"executor": executor}] * count})
    return [result["id"] for result in answer.json()["results"]]


texts = st.text(st.characters(codec="utf-8"), max_size=8)
parameters = st.dictionaries(
    st.sampled_from(["worker", "prefetch", "batch", "resume", "colour"]),
    texts | st.sampled_from(["true", "7", "0", "-1", "1e3", "10001", "x" * 300, "a.b"]),
)


def test_connects_are_accepted_or_refused_as_documented(server, http):
    def connect(executor, parameters):
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        with RawSocket(
            server.settings["port"], f"/v1/executors/{quote(executor, safe='')}/subscribe?{query}"
        ) as socket:
            assert socket.status in {101, 404, 422}
            if socket.status == 101:
                talk = Conversation(socket)
                assert talk.read()
                socket.send(CLOSE, NORMAL)
                while talk.read():
                    pass
                assert socket.close_code == 1000

    for effort in rounds(60):
        effort(given(executor=texts | st.just("mail"), parameters=parameters)(connect))()
    work_normally(server, http, "normal")
