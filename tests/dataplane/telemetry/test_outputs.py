"""What modules print and log is known as theirs, whatever runs their code; what the host says stays its own."""

import io
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from dataplane.runtime import sharing
from dataplane.telemetry import lines, outputs, tracing
from tests.doubles.asgi import http_scope


class Desk:
    """Streams and a log that a test reads."""

    def __init__(self) -> None:
        self.real = io.StringIO()
        self.outputs = outputs.Outputs(lines.Lines(), sharing.whose, lambda text: text.replace("hunter2", "***"))
        self.stream: Any = outputs.Stream(self.real, "stdout", self.outputs)
        self.records: list[logging.LogRecord] = []

    def of(self, module: str = "shop") -> list[tuple[str, str]]:
        return [(line.level, line.text) for line in self.outputs.lines.of(module)[0]]

    def log(self, name: str, message: Any, *args: object, level: int = logging.INFO, error: Any = None) -> bool:
        return self.outputs.logged(logging.LogRecord(name, level, "", 0, message, args, error))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def shop() -> Iterator[None]:
    """A block that runs on behalf of a module."""
    with sharing.within(sharing.Share(1, "shop")):
        yield


def said(desk: Desk, *words: str) -> list[dict[str, Any]]:
    with structlog.testing.capture_logs() as told:
        print(*words, file=desk.stream)
    return [dict(each) for each in told]


@pytest.mark.usefixtures("shop")
def test_what_a_module_prints_is_a_tagged_line_without_secrets(desk: Desk) -> None:
    told = said(desk, "the password", "hunter2\nsecond")
    assert desk.of() == [("stdout", "the password ***"), ("stdout", "second")]
    assert [(each["event"], each["module"], each["text"]) for each in told] == [
        ("module output", "shop", "the password ***"),
        ("module output", "shop", "second"),
    ]
    assert desk.real.getvalue() == ""


@pytest.mark.usefixtures("shop")
def test_a_line_is_told_when_it_ends(desk: Desk) -> None:
    desk.stream.write("half ")
    assert desk.of() == []
    desk.stream.writelines(["a line", "\n"])
    assert desk.of() == [("stdout", "half a line")]
    desk.stream.write("x" * 20_000)
    assert len(desk.of()) == 2


def test_what_the_host_prints_goes_through(desk: Desk) -> None:
    assert said(desk, '{"event": "ready"}') == []
    assert desk.real.getvalue() == '{"event": "ready"}\n'


def test_a_thread_of_an_author_s_is_known_by_its_package(desk: Desk) -> None:
    code = compile("print('from a thread', file=stream)", "shop.py", "exec")
    names = {"__name__": "modplane_modules.my_shop__ab12.views", "stream": desk.stream}
    thread = threading.Thread(target=exec, args=(code, names))
    thread.start()
    thread.join(30)
    assert desk.of("my-shop") == [("stdout", "from a thread")]
    assert desk.log("modplane_modules.my_shop__ab12", "logged")
    assert desk.of("my-shop")[-1] == ("info", "logged")


@pytest.mark.usefixtures("shop")
def test_what_a_module_logs_is_kept_with_its_trace_back(desk: Desk) -> None:
    try:
        raise RuntimeError("hunter2")
    except RuntimeError:
        desk.log("some.library", "failed for %s", "ada", level=logging.ERROR, error=sys.exc_info())
    desk.log("some.library", "%d", "no number")
    (level, text), other = desk.of()
    assert (level, text.splitlines()[0]) == ("error", "failed for ada")
    assert text.endswith("RuntimeError: ***")
    assert other == ("info", "%d")


def test_what_the_host_says_of_a_module_is_among_its_lines(desk: Desk) -> None:
    event = {"event": "handler failed", "module": "shop", "route": "/x", "exc_info": ValueError("broken")}
    assert desk.log("dataplane.gateway.dispatching", event)
    ((_, text),) = desk.of()
    assert text.startswith("handler failed module=shop route=/x\n")
    assert text.endswith("ValueError: broken")


@pytest.mark.usefixtures("shop")
def test_what_is_too_much_goes_no_further_and_is_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BURST", 3.0)
    monkeypatch.setattr(lines, "RATE", 1e-9)
    assert [desk.log("shop", "x") for _ in range(5)] == [True, True, True, False, False]
    assert said(desk, "one more") == []
    assert desk.outputs.lines.of("shop")[1] == 3
    monkeypatch.setattr(lines, "RATE", 1e12)
    assert [each["event"] for each in said(desk, "again")] == ["module output dropped", "module output"]


def test_each_line_of_a_request_says_whose_it_is() -> None:
    bound = outputs.bound("w0", sharing.whose)
    assert bound() == {"worker": "w0"}
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-00", "x-request-id": "r-1"}
    token = tracing.current.set(http_scope("GET", "/", headers=headers))
    try:
        with sharing.within(sharing.Share(1, "shop")):
            assert bound() == {"worker": "w0", "module": "shop", "trace_id": trace, "request_id": "r-1"}
        tracing.current.set(http_scope("GET", "/", headers={"x-request-id": "no word\n"}))
        mine = bound()
        assert mine["request_id"] not in {"", "no word\n"}
        assert bound() == mine
    finally:
        tracing.current.reset(token)
