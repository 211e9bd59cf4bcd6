"""FastAPI's WebSockets, plain and through the gateway, with a real client."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.dataplane.conformance.behaviours.module import Behaviours, Unlayered
from tests.doubles.platform import wait_for
from tests.doubles.twins import Twins, twins

FOLDER = Path(__file__).parent / "behaviours"


@pytest.fixture(scope="module", params=[Behaviours, Unlayered])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins(request.param, FOLDER, tmp_path_factory.mktemp("code")) as running:
        yield running


def on_both(both: Twins, path: str, talk: Callable[[ClientConnection], Any], **more: Any) -> Any:
    """What ``talk`` found, the same on both; how a socket ended is part of it."""
    found = []
    for url in (both.plain, both.hosted + both.prefix):
        with connect(url.replace("http", "ws") + path, proxy=None, **more) as socket:
            found.append((talk(socket), ending(socket)))
    assert both.same(json.dumps(found[0])) == both.same(json.dumps(found[1]))
    return found[1]


def ending(socket: ClientConnection) -> tuple[int, str]:
    try:
        while True:
            socket.recv(timeout=30)
    except TimeoutError:
        raise AssertionError("the socket was not closed") from None
    except ConnectionClosed:
        return socket.close_code or 0, socket.close_reason or ""


def test_text_and_bytes_go_both_ways_and_the_client_closes(both: Twins) -> None:
    def talk(socket: ClientConnection) -> Any:
        assert socket.response is not None
        said = [socket.response.headers["x-socket"]]
        for message in ("hello", "grüße", b"\x01\x02", "x" * 70_000):
            socket.send(message)
            answer = socket.recv(timeout=30)
            said.append(answer if isinstance(answer, str) else answer.hex())
        socket.close(4242, "bye")
        return said

    both.ask("GET", "/log")
    found, end = on_both(both, "/ws/echo", talk)
    assert found[:4] == ["yes", "HELLO", "GRÜSSE", "0201"]
    assert end == (4242, "bye")
    logs: list[str] = []

    def left() -> bool:
        plain, hosted = both.ask("GET", "/log")
        logs.extend([plain[2], hosted[2]])
        return logs.count('["left 4242"]') == 2

    wait_for(left, what=lambda: str(logs))


def test_dependencies_cookies_state_and_addresses_are_there(both: Twins) -> None:
    def talk(socket: ClientConnection) -> Any:
        socket.send(json.dumps({"a": [1]}))
        return json.loads(socket.recv(timeout=30))

    found, end = on_both(both, "/ws/json/3?token=t", talk, additional_headers={"cookie": "visit=7"})
    assert found["said"] == {"a": [1]}
    assert (found["token"], found["number"], found["visit"], found["n"]) == ("t", 3, "7", 42)
    assert found["url"].endswith(f"{both.prefix}/links/3")
    assert end == (4001, "that was all")


def test_the_subprotocol_is_chosen_by_the_module(both: Twins) -> None:
    def talk(socket: ClientConnection) -> Any:
        return [socket.subprotocol, json.loads(socket.recv(timeout=30))]

    for wanted in (["one", "two"], ["three"]):
        found, end = on_both(both, "/ws/subprotocol", talk, subprotocols=[Subprotocol(word) for word in wanted])
        assert found == ["two" if "two" in wanted else None, wanted]
        assert end[0] == 1000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ws/refused", 403),
        ("/ws/json/3", 403),
        ("/ws/json/x?token=t", 403),
        ("/ws/denied", 402),
    ],
)
def test_a_socket_may_be_refused_before_it_is_accepted(both: Twins, path: str, status: int) -> None:
    seen = []
    for url in (both.plain, both.hosted + both.prefix):
        with pytest.raises(InvalidStatus) as caught:
            connect(url.replace("http", "ws") + path, proxy=None)
        seen.append((caught.value.response.status_code, bytes(caught.value.response.body or b"")))
    assert seen[0] == seen[1]
    assert seen[1][0] == status


def test_a_handler_that_raises_closes_its_socket_with_1011(both: Twins) -> None:
    # plain uvicorn drops the connection (1006) without a word
    with connect((both.hosted + both.prefix).replace("http", "ws") + "/ws/crash", proxy=None) as socket:
        assert ending(socket) == (1011, "")


def test_a_socket_without_a_route_is_denied_with_a_problem_document(both: Twins) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(both.plain.replace("http", "ws") + "/ws/none", proxy=None)
    assert caught.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as caught:
        connect((both.hosted + both.prefix).replace("http", "ws") + "/ws/none", proxy=None)
    assert caught.value.response.status_code == 404
    assert json.loads(caught.value.response.body or b"")["status"] == 404
