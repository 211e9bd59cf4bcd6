"""Whatever one module's handlers do while they serve, the caller gets an honest answer and nobody else notices."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.doubles.platform import Platform, manifest, module_source, running, wait_for
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes

SETTINGS = {"MODPLANE_LOOP_HELD_SECONDS": "0.4", "MODPLANE_LOOP_LOST_SECONDS": "3", "MODPLANE_KEEP_ALIVE_SECONDS": "1"}
LIMITS = {"timeoutSeconds": 1, "idleTimeoutSeconds": 1, "maxBodyBytes": 1000, "maxConcurrency": 3}

HEAD = """
import asyncio
import re
import time
from pathlib import Path

from fastapi import BackgroundTasks, Request, WebSocket
from fastapi.responses import Response, StreamingResponse

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

class MODULEModule(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="module", version="1.0.0")
"""

BAD = f"""{HEAD}
    def register_routes(self, router):
        @router.get("/raises")
        @require_module_auth("NONE")
        async def raises():
            raise RuntimeError("secret of the author")

        @router.get("/exits")
        @require_module_auth("NONE")
        async def exits():
            raise SystemExit("secret of the author")

        @router.get("/waits")
        @require_module_auth("NONE")
        async def waits():
            await asyncio.Event().wait()

        @router.get("/thread")
        @require_module_auth("NONE")
        def thread(release: str):
            while not Path(release).exists():
                time.sleep(0.02)

        @router.post("/length")
        @require_module_auth("NONE")
        async def length(request: Request):
            return len(await request.body())

        @router.get("/drips")
        @require_module_auth("NONE")
        async def drips():
            async def parts():
                for _ in range(4):
                    yield b"x"
                    await asyncio.sleep(0.4)
                await asyncio.Event().wait()

            return StreamingResponse(parts())

        @router.get("/breaks")
        @require_module_auth("NONE")
        async def breaks():
            async def parts():
                yield b"x"
                raise RuntimeError("secret of the author")

            return StreamingResponse(parts())

        @router.get("/after")
        @require_module_auth("NONE")
        async def after(later: BackgroundTasks):
            async def fail():
                raise RuntimeError("after the answer")

            later.add_task(fail)
            return "answered"

        @router.get("/says/{{what}}")
        @require_module_auth("NONE")
        async def says(what: str):
            second = b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\nset-cookie: stolen=1\\r\\n\\r\\n"
            headers, body = {{
                "value": ([(b"x-a", b"1\\r\\nset-cookie: stolen=1")], b""),
                "name": ([(b"set-cookie: stolen=1\\r\\nx-b", b"2")], b""),
                "two": ([(b"content-length", b"0"), (b"content-length", b"%d" % len(second))], second),
                "both": ([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], b"0\\r\\n\\r\\n" + second),
                "short": ([(b"content-length", b"1000")], second),
                "long": ([(b"content-length", b"1")], b"x" + second),
                "status": ([(b"upgrade", b"stolen")], second),
            }}[what]
            answer = Response(body, 101 if what == "status" else 200)
            answer.raw_headers = headers
            return answer

        @router.websocket("/talk")
        @require_module_auth("NONE")
        async def talk(socket: WebSocket):
            await socket.accept()
            async for text in socket.iter_text():
                await socket.send_text(text)

        @router.websocket("/deaf")
        @require_module_auth("NONE")
        async def deaf(socket: WebSocket):
            await asyncio.Event().wait()
"""

BLOCKS = f"""{HEAD}
    def register_routes(self, router):
        @router.get("/hello")
        @require_module_auth("NONE")
        async def hello():
            return "hello"

        @router.get("/blocks")
        @require_module_auth("NONE")
        async def blocks(release: str):
            while not Path(release).exists():
                time.sleep(0.02)

        @router.get("/endless")
        @require_module_auth("NONE")
        async def endless():
            re.match("(a+)+$", "a" * 200 + "b")
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Two workers with short limits, and one module that has nothing to do with it all."""
    home = tmp_path_factory.mktemp("bad")
    with running(home, examples=False, workers=2, environment=SETTINGS) as started:
        add(started, "calm", module_source("calm"))
        add(started, "bad", BAD.replace("MODULE", "Bad"), limits=LIMITS)
        yield started


@pytest.fixture
def undisturbed(platform: Platform) -> Iterator[None]:
    """While the test runs the calm module is called without pause, and every answer of it has to be right."""
    with flowing(f"{platform.door}/api/v1/modules/v1/calm/hello", callers=2, fresh=1) as traffic:
        wait_for(lambda: traffic.calls > 10)
        yield
    assert traffic.only(200), (traffic.answers, traffic.failures)


def add(platform: Platform, name: str, source: str, **spec: Any) -> None:
    (platform.modules / f"{name}.py").write_text(source)
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest(name, **spec))


def info(address: str) -> dict[str, Any]:
    """What a worker says of itself."""
    return dict(httpx.get(f"{address}/modules/system/info", timeout=10).json())


def logged(platform: Platform) -> str:
    """What the workers wrote into their logs."""
    return "".join(log.read_text() for log in sorted((platform.data / "logs").glob("*.log")))


def inside(platform: Platform, name: str) -> int:
    """How many calls of a module are under way."""
    modules = [module for address in platform.refresh() for module in info(address)["modules"]]
    return sum(module["inFlight"] for module in modules if module["name"] == name)


def raw(platform: Platform, *requests: str) -> bytes:
    """Every byte of the answers to requests that are sent at once on one connection."""
    where = urlsplit(platform.door)
    assert where.hostname is not None
    text = "".join(f"GET /api/v1/modules/v1/{path} HTTP/1.1\r\nhost: x\r\n\r\n" for path in requests)
    with socket.create_connection((where.hostname, where.port or 80), timeout=10) as client:
        client.sendall(text.encode())
        found = b""
        while piece := client.recv(65_536):
            found += piece
    return found


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("path", ["raises", "exits"])
def test_a_handler_that_raises_costs_its_own_call_only(platform: Platform, path: str) -> None:
    answer = platform.call(f"v1/bad/{path}")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    wait_for(lambda: re.search(rf"in {path}\n(.*\n)+.*secret of the author", logged(platform)), step=0.1)


@pytest.mark.usefixtures("undisturbed")
def test_a_failure_after_the_answer_began_is_not_taken_for_its_end(platform: Platform) -> None:
    assert platform.call("v1/bad/after").json() == "answered"
    with pytest.raises(httpx.RemoteProtocolError):
        platform.call("v1/bad/breaks")


@pytest.mark.usefixtures("undisturbed")
def test_what_does_not_answer_in_time_gets_504(platform: Platform) -> None:
    answer = platform.call("v1/bad/waits")
    assert answer.status_code == 504
    assert answer.json()["detail"] == "the module did not answer within 1 s"
    wait_for(lambda: inside(platform, "bad") == 0)


@pytest.mark.usefixtures("undisturbed")
def test_threads_that_hang_keep_their_places_and_nobody_elses(platform: Platform, tmp_path: Path) -> None:
    address = platform.refresh()[0]
    url = f"{address}/api/v1/modules/v1/bad"
    codes: list[int] = []

    def hang() -> None:
        codes.append(httpx.get(f"{url}/thread", params={"release": str(tmp_path / "go")}, timeout=10).status_code)

    callers = [threading.Thread(target=hang) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert codes == [504] * 3
    refused = httpx.post(f"{url}/length", content=b"12")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert httpx.get(f"{address}/api/v1/modules/v1/calm/hello").status_code == 200
    (tmp_path / "go").touch()
    wait_for(lambda: inside(platform, "bad") == 0)
    assert httpx.post(f"{url}/length", content=b"12").text == "2"


@pytest.mark.usefixtures("undisturbed")
def test_a_body_over_the_limit_gets_413_whether_its_length_is_declared_or_not(platform: Platform) -> None:
    def endlessly() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"x" * 1000

    for body in (b"x" * 1001, b"x" * 2_000_000, endlessly()):
        answer = platform.call("v1/bad/length", "POST", content=body)
        assert answer.status_code == 413
        assert answer.json()["title"] == "Content Too Large"
    assert platform.call("v1/bad/length", "POST", content=b"x" * 1000).text == "1000"


@pytest.mark.usefixtures("undisturbed")
def test_a_stream_lives_while_it_moves(platform: Platform) -> None:
    pieces: list[bytes] = []
    url = f"{platform.door}/api/v1/modules/v1/bad/drips"
    with platform.http.stream("GET", url) as answer, pytest.raises(httpx.RemoteProtocolError):
        pieces.extend(answer.iter_raw())
    assert b"".join(pieces) == b"xxxx"


@pytest.mark.usefixtures("undisturbed")
def test_a_websocket_is_closed_when_nothing_moves_or_too_much_comes(platform: Platform) -> None:
    url = f"{platform.door.replace('http', 'ws')}/api/v1/modules/v1/bad"
    for said, code in (("hello", 1001), ("x" * 1001, 1009)):
        with connect(f"{url}/talk") as client:
            client.send(said)
            with pytest.raises(ConnectionClosed) as closed:
                _listen(client)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code
    with pytest.raises(InvalidStatus) as denied:
        connect(f"{url}/deaf")
    assert denied.value.response.status_code == 504


def _listen(client: ClientConnection) -> None:
    """Hear what is said until the end."""
    while True:
        client.recv(timeout=10)


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("what", ["value", "name", "two", "both", "short", "long", "status"])
def test_what_is_not_one_answer_becomes_502_and_smuggles_nothing(platform: Platform, what: str) -> None:
    found = raw(platform, f"bad/says/{what}", "calm/hello")
    first, _, second = found.partition(b'"instance"')
    assert first.startswith(b"HTTP/1.1 502 ")
    assert second.count(b"HTTP/1.1 200 OK") == 1
    assert found.count(b"HTTP/1.1 ") == 2
    assert b"stolen" not in found


def test_a_module_that_holds_the_loop_is_named_and_at_the_third_time_put_out_of_service_there(
    platform: Platform, tmp_path: Path
) -> None:
    add(platform, "blocks", BLOCKS.replace("MODULE", "Blocks"))
    held, other = platform.refresh()
    for number in range(3):
        _hold(platform, tmp_path / f"release{number}")
    last = info(held)["loop"]["last"][-1]
    assert last["module"] == "blocks"
    assert last["place"].startswith("blocks.py:") or "release" in last["place"]
    url = "/api/v1/modules/v1/blocks/hello"
    wait_for(lambda: httpx.get(held + url).status_code == 503)
    assert "LoopBlocked" in httpx.get(held + url).json()["detail"]
    assert httpx.get(other + url).json() == "hello"
    assert httpx.get(f"{held}/api/v1/modules/v1/calm/hello").status_code == 200
    (rejected,) = wait_for(lambda: info(held)["report"]["rejected"])
    assert (rejected["module"], rejected["reason"]) == ("blocks", "LoopBlocked")
    assert "3 times within 10 minutes" in rejected["message"]
    add(platform, "blocks", BLOCKS.replace("MODULE", "Blocks"), config={"changed": True})
    assert httpx.get(held + url).json() == "hello"


def _hold(platform: Platform, release: Path) -> None:
    """Let a handler hold a worker's loop until the watchdog has seen it; the other worker answers meanwhile."""
    held, other = platform.refresh()
    before = logged(platform).count("serving loop is held")

    def call() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{held}/api/v1/modules/v1/blocks/blocks", params={"release": str(release)}, timeout=20)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        wait_for(lambda: logged(platform).count("serving loop is held") > before, step=0.1)
        assert httpx.get(f"{other}/api/v1/modules/v1/calm/hello").status_code == 200
    finally:
        release.touch()
        caller.join(60)


STARTS = f"""{HEAD}
    async def on_startup(self):
        if NEWEST and not Path(self.config["healed"]).exists():
            WRONG

    def register_routes(self, router):
        @router.get("/hello")
        @require_module_auth("NONE")
        async def hello():
            return NEWEST
"""


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("fails", 'raise RuntimeError("no database")', "LifespanFailed"),
        pytest.param("hangs", "await asyncio.Event().wait()", "LifespanTimedOut", marks=pytest.mark.slow),
    ],
)
def test_a_start_that_goes_wrong_is_tried_again_while_the_last_good_generation_serves(
    platform: Platform, tmp_path: Path, name: str, wrong: str, reason: str
) -> None:
    config = {"healed": str(tmp_path / "healed")}
    source = STARTS.replace("MODULE", name.title()).replace("WRONG", wrong)
    add(platform, name, source.replace("NEWEST", "False"), config=config)
    with flowing(f"{platform.door}/api/v1/modules/v1/{name}/hello", callers=1) as traffic:
        (platform.modules / f"{name}.py").write_text(source.replace("NEWEST", "True"))
        told = wait_for(lambda: _pending(platform, name, reason), timeout=40)
        assert told["nextRetry"]
        assert platform.call(f"v1/{name}/hello").json() is False
        (tmp_path / "healed").touch()
        wait_for(lambda: platform.call(f"v1/{name}/hello").json() is True, timeout=40)
    assert traffic.only(200), (traffic.answers, traffic.failures)


def _pending(platform: Platform, name: str, reason: str) -> dict[str, Any] | None:
    """What a worker says of a module that it could not start yet."""
    pending = [entry for address in platform.refresh() for entry in info(address)["report"]["pending"]]
    return next((entry for entry in pending if (entry["module"], entry["reason"]) == (name, reason)), None)


@pytest.mark.slow
def test_a_worker_whose_loop_does_not_come_back_is_replaced(platform: Platform) -> None:
    """A regular expression that never ends holds the whole interpreter: the kernel ends the process."""
    add(platform, "stuck", BLOCKS.replace("MODULE", "Stuck"))
    held, other = platform.refresh()
    boot = info(held)["worker"]["boot"]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{held}/api/v1/modules/v1/stuck/endless", timeout=60)
    assert httpx.get(f"{other}/api/v1/modules/v1/calm/hello").status_code == 200
    again = wait_for(lambda: _reborn(platform, boot), timeout=30)
    assert httpx.get(f"{again}/api/v1/modules/v1/calm/hello").status_code == 200
    assert info(again)["loop"]["last"][0]["place"].startswith("stuck.py:")


def _reborn(platform: Platform, boot: str) -> str | None:
    address = platform.refresh()[0]
    try:
        return address if info(address)["worker"]["boot"] != boot else None
    except httpx.HTTPError:
        return None
