"""Requests sent on one connection without waiting for the answers: each answer belongs to its request."""

import json
import random
import re
import socket
import time
from itertools import pairwise

import httpx2
import pytest

from tests.end_to_end.server import Server, wait_until
from tests.end_to_end.test_request_bounds import HEAD, connection, read_to_end
from tests.end_to_end.test_stalled_clients import resident_bytes

DEADLINE_SECONDS = 0.3
CLAIM_SECONDS = 1.0
"""How long a first request may take: several deadlines of what follows it."""
MIB = 1024 * 1024
LONG_HEAD = b"GET /v1 HTTP/1.1\r\nHost: x\r\nX-Padding: " + b"x" * 70_000 + b"\r\nX: y\r\n"
BAD_CHUNK = HEAD + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n"
UPGRADE = (
    b"GET /v1/executors/no%20name/subscribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FAULTS = {"no http": b"xyz", "no http, ended": b"xyz\r\n\r\n", "long head": LONG_HEAD, "bad chunk": BAD_CHUNK}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = {"head_seconds": DEADLINE_SECONDS, "body_seconds": DEADLINE_SECONDS}
    with Server(tmp_path_factory.mktemp("pipelining"), **settings).running() as server:
        yield server


@pytest.fixture
def executor(request):
    """An executor of each test's own."""
    return re.sub(r"\W", "_", request.node.name)


def post(path: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    return HEAD.replace(b"/v1/jobs", path.encode()) + b"Content-Length: %d\r\n\r\n%b" % (len(content), content)


def enqueue(executor: str) -> bytes:
    return post("/v1/jobs", {"executor": executor})


def claim(executor: str, seconds: float = CLAIM_SECONDS) -> bytes:
    """A request that is answered so much later: there is no job."""
    return post(f"/v1/executors/{executor}_none/claim", {"wait": seconds})


def stored(server: Server, executor: str) -> int:
    query = {"query": {"executor_equal": executor}, "limit": 1_000}
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        return len(http.post("/v1/jobs/query", json=query).json()["jobs"])


def answers(server: Server, *parts: bytes) -> list[int]:
    """Send the parts, and return the statuses of all answers until the server closes; they must be whole."""
    with connection(server) as raw:
        for part in parts:
            raw.sendall(part)
            time.sleep(0.02)  # so that it comes as a part of its own
        return statuses(read_to_end(raw))


def statuses(said: bytes) -> list[int]:
    found = []
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        found.append(int(head.split()[1]))
        (length,) = re.findall(rb"content-length: (\d+)", head.lower())
        assert len(rest) >= int(length)
        said = rest[int(length) :]
    return found


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_request_that_came_whole_gets_its_own_answer_whatever_follows_it(server, executor, fault):
    first, *others = answers(server, enqueue(executor) + fault)
    assert first == 201
    # A long head comes in parts: meanwhile the first may have its answer. How much of the first part is the head's is
    # not counted, so what comes in one read and never ends may as well be too slow.
    assert others in ([], [431], [408])
    assert stored(server, executor) == 1


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_connection_is_closed_after_the_answers_to_all_that_came_whole(server, executor, fault):
    """The first still runs when the fault is found, the second waits for its turn."""
    parts = claim(executor, 0.2), enqueue(executor), fault, enqueue(executor)
    assert answers(server, b"".join(parts)) == [200, 201]
    assert answers(server, claim(executor, 0.2), fault, b"more of it") == [200]
    assert stored(server, executor) == 1


@pytest.mark.parametrize(
    "begun",
    [b"GET /v1 HTTP/1.1\r\nX-Padding: ", HEAD + b"Content-Length: 1000\r\n\r\n{", b"G"],
    ids=["head", "body", "a letter"],
)
def test_request_has_its_deadline_from_the_answer_before_it(server, executor, begun):
    """The answer takes several deadlines; what stalls behind it is judged once it is its turn."""
    began_at = time.monotonic()
    first, *others = answers(server, claim(executor) + begun)
    assert first == 200
    assert others in ([408], [])
    assert others or begun == b"G"
    assert time.monotonic() - began_at > CLAIM_SECONDS + DEADLINE_SECONDS * 0.9


def test_endless_head_behind_an_unanswered_request_is_not_kept(server, executor):
    before = resident_bytes(server)
    with connection(server) as raw:
        raw.sendall(claim(executor, 2) + b"GET /v1 HTTP/1.1\r\nX: ")
        for _ in range(48):
            raw.sendall(b"x" * MIB)
        assert resident_bytes(server) < before + 24 * MIB
        assert statuses(read_to_end(raw)) == [200]


def test_request_that_was_slow_behind_another_is_taken(server, executor):
    whole = enqueue(executor)
    with connection(server) as raw:
        raw.sendall(claim(executor) + whole[:-5])
        time.sleep(DEADLINE_SECONDS * 2)  # the claim is not answered yet
        raw.sendall(whole[-5:] + b"GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert statuses(read_to_end(raw)) == [200, 201, 200]


def test_request_refused_while_its_body_comes_gets_one_answer(server):
    """It is too big, which is answered at once; then its body stalls."""
    with connection(server) as raw:
        raw.sendall(HEAD + b"Content-Length: 2000000\r\n\r\n{")
        assert statuses(read_to_end(raw)) == [413]


def test_request_refused_before_it_runs_gets_one_answer(server):
    """Its head is sound, and the application would answer without its body."""
    refused = b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"
    assert answers(server, refused) == [400]


def test_upgrade_behind_an_unanswered_request_is_a_plain_request(server, executor):
    """A refused socket would else be heard as the answer to what came before it."""
    last = b"GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert answers(server, enqueue(executor) + UPGRADE, last) == [201, 404, 200]
    assert stored(server, executor) == 1


def test_caller_that_leaves_with_requests_behind_its_claim_gets_no_jobs(server, executor):
    with connection(server) as raw:
        raw.sendall(post(f"/v1/executors/{executor}/claim", {"wait": 30}) + enqueue(f"{executor}_other"))
        time.sleep(0.2)  # until it waits
    time.sleep(0.2)  # until the server has heard of the close
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        http.post("/v1/jobs", json={"executor": executor})
        claimed = http.post(f"/v1/executors/{executor}/claim", json={"wait": 5}).json()["jobs"]
    assert [job["attempt"] for job in claimed] == [1]


def test_answers_tell_what_was_done_however_the_bytes_are_cut(server):
    """Of so many requests as were answered with 201, each and no other is stored: a 4xx has changed nothing."""
    chance = random.Random(7)
    for number in range(40):
        executor = f"cut_{number}"
        count = chance.randrange(1, 5)
        sent = enqueue(executor) * count + chance.choice(list(FAULTS.values())) + enqueue(executor)
        cuts = sorted(chance.sample(range(1, min(len(sent), 600)), chance.randrange(4)))
        said = b""
        with connection(server) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for start, end in pairwise((0, *cuts, len(sent))):
                    raw.sendall(sent[start:end])
                    time.sleep(chance.choice((0, 0, 0.002)))
            except ConnectionError:
                pass
            said = read_to_end(raw)
        found = statuses(said)
        refused = [status for status in found if status != 201]
        assert len(refused) <= 1
        assert found[: len(found) - len(refused)] == [201] * (len(found) - len(refused))
        if refused:
            assert stored(server, executor) == len(found) - 1, (number, found)
        else:
            wait_until(lambda executor=executor, count=count: stored(server, executor) == count)
