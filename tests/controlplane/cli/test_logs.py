"""`modplane logs`: lines of every worker in order of time, each once, and who is silent."""

import time
from collections.abc import Mapping

import pytest

from controlplane.api import tailing
from controlplane.store.records import Record
from schemas.lines import Line, LineReport
from tests.doubles import apiparts
from tests.doubles.desk import Desk


def line(number: int, at: float, text: str) -> Line:
    return Line(number=number, at=at, level="stdout", text=text)


class Workers:
    """Two workers that know the module, and one that does not answer."""

    def __init__(self) -> None:
        self.has = {"w0": [line(3, 20.5, "b")], "w1": [line(1, 10.25, "a"), line(2, 30.0, "c")]}
        self.asked: list[dict[str, tuple[str, int]]] = []

    async def lines(self, _: object, module: str, known: Mapping[str, tuple[str, int]]) -> list[LineReport]:
        assert module == "orders"
        self.asked.append(dict(known))
        return [
            LineReport(
                id="q",
                worker=worker,
                boot="ab",
                lines=[each for each in self.has[worker] if each.number > after],
            )
            for worker, (_, after) in known.items()
            if worker in self.has
        ]


@pytest.fixture
def workers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Workers:
    found = Workers()

    async def lines(who: object, module: str, known: Mapping[str, tuple[str, int]]) -> list[LineReport]:
        return await found.lines(who, module, known)

    monkeypatch.setattr(tailing.Nobody, "lines", lines)
    desk.run(desk.parts.apply(apiparts.module("orders")))
    for name in ("w0", "w1", "w2"):
        made = Record("Worker", name, f"uid-{name}", 1, 0, desk.parts.clock.now(), status={"lost": name == "w2"})
        desk.run(desk.parts.store.write(lambda tx, made=made: tx.put(made)))  # type: ignore[misc]
    return found


def test_lines_of_all_workers_come_in_order_of_time(desk: Desk, workers: Workers) -> None:
    assert desk.type("logs", "orders").out.splitlines() == [
        "1970-01-01T00:00:10.250Z  w1  stdout    a",
        "1970-01-01T00:00:20.500Z  w0  stdout    b",
        "1970-01-01T00:00:30.000Z  w1  stdout    c",
    ]
    assert workers.asked == [{"w0": ("", 0), "w1": ("", 0)}]
    assert len(desk.type("logs", "orders", "--tail", "1").out.splitlines()) == 1
    assert len(desk.type("logs", "orders", "--worker", "w1").out.splitlines()) == 2


def test_who_does_not_answer_is_named(desk: Desk, workers: Workers) -> None:
    del workers.has["w0"]
    answer = desk.type("logs", "orders")
    assert "No answer from w0" in answer.err
    assert len(answer.out.splitlines()) == 2


def test_following_tells_each_line_once(desk: Desk, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []

    def sleep(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 2:
            raise KeyboardInterrupt
        workers.has["w0"].append(line(9, 40.0, "d"))

    monkeypatch.setattr(time, "sleep", sleep)
    out = desk.type("logs", "orders", "-f", code=130).out.splitlines()
    assert [each[-1] for each in out] == ["a", "b", "c", "d"]
    assert workers.asked[1] == {"w0": ("ab", 3), "w1": ("ab", 2)}


def test_what_is_not_there_is_refused(desk: Desk, workers: Workers) -> None:
    assert "'nobody'" in desk.type("logs", "nobody", code=1).err
    assert "'w9'" in desk.type("logs", "orders", "--worker", "w9", code=1).err
