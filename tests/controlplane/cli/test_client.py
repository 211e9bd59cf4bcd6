"""The API client against a scripted server: what a failure on the way means for the command."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import httpx
import pytest

from controlplane.cli import client, exits
from schemas.meta import Json

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PAUSE", 0.0)


@pytest.fixture
def scripted() -> Iterator[Callable[[Answer], client.Client]]:
    made: list[client.Client] = []

    def make(answer: Answer) -> client.Client:
        made.append(client.Client("http://server", transport=httpx.MockTransport(answer)))
        return made[-1]

    yield make
    for one in made:
        one.close()


Scripted = Callable[[Answer], client.Client]


def status(code: int, text: str, reason: str = "") -> Json:
    return {"kind": "Status", "code": code, "message": text, "reason": reason}


@pytest.mark.parametrize(
    ("code", "end"),
    [(404, exits.NO), (409, exits.REFUSED), (422, exits.REFUSED), (500, exits.REFUSED), (503, exits.UNREACHABLE)],
)
def test_a_status_becomes_an_exit_code(scripted: Scripted, code: int, end: int) -> None:
    api = scripted(lambda _: httpx.Response(code, json=status(code, "because")))
    with pytest.raises(exits.Exit, match="because") as raised:
        api.get("modules", "x")
    assert raised.value.code == end


@pytest.mark.parametrize("text", ["", "<html>", "[]", "5"])
def test_an_answer_that_is_no_object_is_not_our_server(scripted: Scripted, text: str) -> None:
    with pytest.raises(exits.Exit, match="not as a modplane control plane") as raised:
        scripted(lambda _: httpx.Response(200, text=text)).get("modules", "x")
    assert raised.value.code == exits.UNREACHABLE
    with pytest.raises(exits.Exit) as refused:
        scripted(lambda _: httpx.Response(400, text=text)).get("modules", "x")
    assert refused.value.code == exits.REFUSED


def test_lists_are_read_page_after_page(scripted: Scripted) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.params.get("continue")
        assert request.url.params["labelSelector"] == "a=b"
        page = {None: ("1", "next"), "next": ("2", None)}[asked]
        metadata = {"resourceVersion": "7"} | ({"continue": page[1]} if page[1] else {})
        return httpx.Response(200, json={"items": [{"metadata": {"name": page[0]}}], "metadata": metadata})

    found = scripted(answer).list_all("modules", selector="a=b")
    assert [item["metadata"]["name"] for item in found["items"]] == ["1", "2"]


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (httpx.ConnectError("refused"), exits.UNREACHABLE),
        (httpx.ReadTimeout("slow"), exits.TIMED_OUT),
        (httpx.RemoteProtocolError("cut"), exits.UNREACHABLE),
    ],
)
def test_a_request_that_gets_no_answer(scripted: Scripted, error: Exception, end: int) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(exits.Exit) as raised:
        scripted(answer).get("modules", "x")
    assert raised.value.code == end


def event(kind: str, revision: int, name: str = "x") -> str:
    return json.dumps({"type": kind, "object": {"metadata": {"name": name, "resourceVersion": str(revision)}}}) + "\n"


def test_a_watch_goes_on_after_a_cut_a_restart_and_a_quiet_time(scripted: Scripted) -> None:
    script: list[Exception | str] = [
        event("ADDED", 5) + event("BOOKMARK", 8),
        httpx.RemoteProtocolError("cut"),
        httpx.ConnectError("restarting"),
        httpx.ReadTimeout("quiet"),
        event("MODIFIED", 9),
    ]
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["resourceVersion"])
        step = script.pop(0)
        if isinstance(step, Exception):
            raise step
        return httpx.Response(200, text=step)

    watch = scripted(answer).watch("modules", after="3")
    assert next(watch)["type"] == "ADDED"
    assert next(watch)["type"] == "MODIFIED"
    assert asked == ["3", "8", "8", "8", "8"]


def test_a_watch_after_a_compaction_is_told(scripted: Scripted) -> None:
    with pytest.raises(client.GoneError):
        next(scripted(lambda _: httpx.Response(410, json=status(410, "old"))).watch("modules", after="1"))
    error = json.dumps({"type": "ERROR", "object": status(410, "old")})
    with pytest.raises(client.GoneError):
        next(scripted(lambda _: httpx.Response(200, text=error)).watch("modules", after="1"))


def test_a_watch_that_is_refused_ends(scripted: Scripted) -> None:
    with pytest.raises(exits.Exit, match="no such field"):
        next(scripted(lambda _: httpx.Response(400, json=status(400, "no such field"))).watch("modules", after="1"))
    error = json.dumps({"type": "ERROR", "object": status(500, "broken")})
    with pytest.raises(exits.Exit, match="broken"):
        next(scripted(lambda _: httpx.Response(200, text=error)).watch("modules", after="1"))


def test_a_watch_never_outlives_its_deadline(scripted: Scripted) -> None:
    with pytest.raises(exits.Exit) as raised:
        next(scripted(lambda _: httpx.Response(200, text="")).watch("modules", after="1", deadline=0.0))
    assert raised.value.code == exits.TIMED_OUT


def test_a_connection_belongs_to_its_command() -> None:
    with click.Context(click.Command("x")):
        api = client.connect("http://127.0.0.1:1/", Path())
        assert api.url == "http://127.0.0.1:1"
