"""What is noticed of code that changes what it finds; each change is undone here."""

import asyncio
import builtins
import json
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator

import fastapi
import pydantic
import pytest
import starlette.routing

from dataplane.inspection import surroundings
from dataplane.runtime import collecting
from schemas import paths


@pytest.fixture(scope="module")
def host() -> surroundings.Host:
    return surroundings.Host()


def test_what_nobody_touched_is_as_it_was(host: surroundings.Host) -> None:
    before = surroundings.State()
    import colorsys  # what code imports is no change

    assert colorsys
    assert host.changed() == []
    assert surroundings.State().same(before)
    assert surroundings.State().harm(before) == []


@pytest.mark.parametrize(
    ("owner", "name", "told"),
    [
        (json, "loads", "json.loads"),
        (builtins, "print", "builtins.print"),
        (os, "_exit", "os._exit"),
        (asyncio, "run", "asyncio.runners.run"),
        (fastapi.APIRouter, "add_api_route", "fastapi.routing.APIRouter.add_api_route"),
        (starlette.routing.Route, "matches", "starlette.routing.Route.matches"),
        (pydantic.BaseModel, "model_dump_json", "pydantic.main.BaseModel.model_dump_json"),
        (collecting, "collect", "dataplane.runtime.collecting.collect"),
        (paths, "claims_of", "schemas.paths.claims_of"),
    ],
)
def test_an_exchanged_function_is_named(
    host: surroundings.Host, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, told: str
) -> None:
    place = asyncio.runners if owner is asyncio else owner
    monkeypatch.setattr(place, name, lambda *args, **kwargs: None)
    found = host.changed()
    monkeypatch.undo()
    assert found == [told]


def test_modules_that_are_exchanged_taken_away_or_made_up_are_named(
    host: surroundings.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "json", types.ModuleType("json"))
    monkeypatch.delitem(sys.modules, "fastapi.routing")
    monkeypatch.setitem(sys.modules, "sched", types.ModuleType("sched"))
    monkeypatch.setitem(sys.modules, "somebody.elses", types.ModuleType("own business"))
    found = set(host.changed())
    monkeypatch.undo()
    assert found == {"sys.modules['json']", "sys.modules['fastapi.routing']", "sys.modules['sched']"}


@pytest.fixture
def undone() -> Iterator[None]:
    folder, mask, handler = os.getcwd(), os.umask(0o022), signal.getsignal(signal.SIGUSR2)
    yield
    os.chdir(folder)
    os.umask(mask)
    signal.signal(signal.SIGUSR2, handler)


@pytest.mark.usefixtures("undone")
def test_what_a_process_has_once_is_told_by_name() -> None:
    os.umask(0o022)
    before = surroundings.State()
    os.chdir("/tmp")
    os.umask(0)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    now = surroundings.State()
    assert set(now.harm(before)) == {"the working directory", "the umask", "signal handlers"}
    assert not now.same(before)


def test_what_only_the_next_one_would_find_is_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    before, go = surroundings.State(), threading.Event()
    monkeypatch.setenv("LEFT_BEHIND", "yes")
    monkeypatch.syspath_prepend("/nowhere")
    waiting = threading.Thread(target=go.wait)
    waiting.start()
    now = surroundings.State()
    go.set()
    waiting.join()
    assert now.harm(before) == []
    assert not now.same(before)
