"""Whatever bytes a caller sends as a path: if a handler ran, its policy was checked on the same reading of it.

The same bytes go through both of uvicorn's parsers, and through the strict connection that workers use.
"""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from fastapi import APIRouter, Request
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from dataplane.connections import Connection
from dataplane.gateway import dispatching, hosting, pages, serving
from tests.doubles.modules import FakeInstance

PREFIX = b"/api/v1/modules/v1/shop"
OPEN = {
    "open": r"/open",
    "item": r"/items/(?P<name>[^/]+)",
    "rest": r"/rest/(?P<rest>.*)",
    "number": r"/numbers/(?P<number>[0-9]+)",
}
GUARDED = ["/secret", "/items/secret", "/rest/secret", "/open/{name}"]


Ran = tuple[str, str, dict[str, Any]]
"""A handler, with the path and the parameters that it saw."""


class Transport(asyncio.Transport):
    """Where a protocol writes to."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 9)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing."""

    def resume_reading(self) -> None:
        """Nothing."""


class Shop:
    """Open routes that say what they saw, beside guarded ones that must never run."""

    def __init__(self) -> None:
        self.ran: list[Ran] = []

    def register(self, router: APIRouter) -> None:
        def handler(name: str) -> Any:
            async def ran(request: Request) -> str:
                self.ran.append((name, request.scope["path"], dict(request.path_params)))
                return name

            return ran

        for path in GUARDED:
            router.add_api_route(path, handler("guarded"), methods=["GET"], name=path)
        router.add_api_route("/open", handler("open"), methods=["GET"])
        router.add_api_route("/items/{name}", handler("item"), methods=["GET"])
        router.add_api_route("/rest/{rest:path}", handler("rest"), methods=["GET"])
        router.add_api_route("/numbers/{number:int}", handler("number"), methods=["GET"])


class Platform:
    """A gateway with that shop, and a loop to call it on."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._shop, self._host = Shop(), hosting.Host()
        gateway = dispatching.Dispatcher(self._host, pages.Pages(self._host, ready=dict, info=dict, version="1"))
        self._config = Config(gateway, lifespan="off", log_config=None, access_log=False, proxy_headers=False)
        instance = FakeInstance(self._shop.register, guarded=GUARDED)
        runner.run(self._host.install(serving.serve(instance, datetime.now(UTC))))

    def get(self, kind: type[asyncio.Protocol], target: bytes) -> tuple[bytes, list[Ran]]:
        """What is answered to a request for ``target``, and what ran."""
        self._shop.ran.clear()
        answer = self._runner.run(self._send(kind, target))
        return answer, list(self._shop.ran)

    async def _send(self, kind: Any, target: bytes) -> bytes:
        state, transport = ServerState(), Transport()
        protocol = kind(config=self._config, server_state=state, app_state={})
        protocol.connection_made(transport)
        protocol.data_received(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        while state.tasks:
            await asyncio.wait(set(state.tasks))
        protocol.connection_lost(None)
        return transport.written


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with asyncio.Runner() as runner:
        yield Platform(runner)


def meant(target: bytes) -> tuple[str, str] | None:
    """The route that a careful reader finds, without any code of the gateway: one decoding, segment by segment."""
    path = re.split(rb"[?#]", target, maxsplit=1)[0]
    if not path.startswith(PREFIX + b"/"):
        return None
    segments = [unquote_to_bytes(segment).decode() for segment in path.split(b"/")]
    below = "/" + "/".join(segments[PREFIX.count(b"/") + 1 :])
    for guarded in GUARDED:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", guarded), below):
            return "guarded", below
    return next(((name, below) for name, pattern in OPEN.items() if re.fullmatch(pattern, below)), None)


PART = st.one_of(
    st.sampled_from(
        [b"api", b"v1", b"modules", b"shop", b"open", b"items", b"rest", b"secret", b"numbers", b"7", b"/", b"//", b".",
         b"..", b"%2e", b"%2E%2e", b"%2f", b"%2F", b"%5c", b"\\", b";", b";x=1", b"%00", b"%ff", b"%c0%af", b"%252e",
         b"%73ecret", b"%", b"?", b"#", b"%C3%A4", b"%E2%80%A8", b"@", b":80", b"http://x", b"*", b"SECRET", b"%20"]
    ),
    st.binary(max_size=3),
)  # fmt: skip
TARGET = st.builds(
    lambda begin, parts: begin + b"".join(parts),
    st.sampled_from([PREFIX, PREFIX + b"/", PREFIX + b"/items/", PREFIX + b"/rest/", PREFIX + b"/open/", b"/", b""]),
    st.lists(PART, max_size=6),
)


@pytest.mark.parametrize("kind", [Connection, HttpToolsProtocol, H11Protocol])
@settings(deadline=None)
@given(target=TARGET)
@example(target=PREFIX + b"/open")
@example(target=PREFIX + b"/items/%73ecret")
@example(target=PREFIX + b"/rest/../secret")
@example(target=PREFIX + b"/rest/%2e%2e/secret")
@example(target=PREFIX + b"/items%2Fsecret")
@example(target=PREFIX + b"/rest//secret")
@example(target=PREFIX + b"/items/secret;x=1")
@example(target=PREFIX + b"/items/x#/../secret")
@example(target=PREFIX + b"/items#/secret")
@example(target=b"http://x" + PREFIX + b"/secret")
def test_a_handler_runs_only_on_the_reading_that_its_policy_was_checked_on(
    platform: Platform, kind: type[asyncio.Protocol], target: bytes
) -> None:
    answer, ran = platform.get(kind, target)
    assert not [name for name, _, _ in ran if name == "guarded"]
    if not ran:
        assert not answer.startswith(b"HTTP/1.1 200 ") or meant(target) is None
        return
    ((name, path, parameters),) = ran
    found = meant(target)
    assert found is not None
    assert (name, PREFIX.decode() + found[1]) == (found[0], path)
    pattern = re.fullmatch(OPEN[name], found[1])
    assert pattern is not None
    assert {key: str(value) for key, value in parameters.items()} == pattern.groupdict()


@pytest.mark.parametrize("kind", [Connection, HttpToolsProtocol, H11Protocol])
def test_each_parser_runs_what_is_open_and_no_more(platform: Platform, kind: type[asyncio.Protocol]) -> None:
    for target, status, count in (
        (b"/open", b"200", 1),
        (b"/items/x", b"200", 1),
        (b"/rest/a/b", b"200", 1),
        (b"/items/%73ecret", b"401", 0),
        (b"/secret", b"401", 0),
        (b"/rest/..%2fsecret", b"400", 0),
    ):
        answer, ran = platform.get(kind, PREFIX + target)
        assert answer.split(b" ")[1] == status
        assert len(ran) == count
