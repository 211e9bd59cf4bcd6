"""One generation of a module, built, started, stopped and unloaded in this process."""

import asyncio
import contextlib
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dataplane.errors import LoadFailed, StartFailed
from dataplane.runtime import building, confiding, turns
from dataplane.runtime.building import Instance
from schemas.policies import OPEN
from tests.doubles import sources

Make = Callable[..., Instance]

HEAD = "from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth\n"
TWENTY = (
    HEAD
    + "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
    + "    def register_routes(self, router):\n"
    + "        for n in range(20):\n            router.add_api_route(f'/r{n}', lambda: 1)\n",
    "m:M",
    [("GET", f"/r{n}") for n in range(20)],
)
MOST_STEPS = 5_000
"""Calls and returns of a build between two offers of its turn; a route takes about 1,300."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    instances: list[Instance] = []

    def made(
        files: dict[str, str] | str,
        entry_point: str,
        routes: list[tuple[str, str]],
        *,
        secrets: confiding.Secrets = building.NO_SECRETS,
        **more: Any,
    ) -> Instance:
        top = entry_point.split(":", maxsplit=1)[0].split(".", maxsplit=1)[0]
        digest = sources.store(tmp_path, {f"{top}.py": files} if isinstance(files, str) else files)
        wanted = sources.desired(digest, entry_point, routes, **more)
        instances.append(building.build(wanted, name=top, uid="u", generation=1, code_root=tmp_path, secrets=secrets))
        return instances[-1]

    yield made
    for instance in instances:
        instance.unload()


def get(instance: Instance, path: str) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(instance.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            return await client.get(path)

    return asyncio.run(call())


def test_the_example_of_the_architecture_page_is_built_word_for_word(make: Make) -> None:
    instance = make(sources.EXAMPLE, "analytics_core:AnalyticsCoreModule", [("GET", "/dashboard/overview")])
    assert [(route.methods, route.path, route.policy) for route in instance.routes] == [
        (("GET",), "/dashboard/overview", OPEN)
    ]
    assert instance.prefix == "/api/v1/modules/v1/analytics-core"
    assert instance.module.metadata.name == "Analytics Core"


def test_a_built_module_answers_and_knows_its_configuration(make: Make) -> None:
    instance = make(sources.SMALL, "small:Small", [("GET", "/hello")], config={"a": [1]})
    assert get(instance, "/hello").json() == {"hello": "world", "config": {"a": [1]}}


def test_included_routers_mounts_and_websockets_are_collected_in_their_order(make: Make) -> None:
    text = HEAD + (
        "from fastapi import APIRouter\nfrom starlette.responses import PlainTextResponse\n"
        "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
        "    def register_routes(self, router):\n"
        "        users = APIRouter()\n"
        "        @users.api_route('/{id}', methods=['PUT', 'GET'])\n        def user(id: int): return id\n"
        "        router.include_router(users, prefix='/users')\n"
        "        @router.websocket('/live')\n        async def live(ws): ...\n"
        "        router.mount('/files', PlainTextResponse('file'))\n"
    )
    routes = [("GET|PUT", "/users/{id}"), ("WEBSOCKET", "/live"), ("*", "/files/{path:path}")]
    instance = make(text, "m:M", routes)
    assert [("|".join(route.methods), route.path) for route in instance.routes] == routes
    assert get(instance, "/users/7").json() == 7
    assert get(instance, "/files/x").text == "file"


def test_exception_handlers_of_a_module_are_its_own(make: Make) -> None:
    text = HEAD + (
        "from fastapi.responses import JSONResponse\n"
        "class Teapot(Exception): ...\n"
        "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
        "    def exception_handlers(self):\n"
        "        return {Teapot: lambda request, error: JSONResponse({'tea': 1}, 418)}\n"
        "    def register_routes(self, router):\n"
        "        @router.get('/tea')\n        def tea(): raise Teapot\n"
    )
    answer = get(make(text, "m:M", [("GET", "/tea")]), "/tea")
    assert (answer.status_code, answer.json()) == (418, {"tea": 1})


@pytest.mark.parametrize(
    ("text", "entry_point", "reason", "message"),
    [
        ("import nosuch\n", "m:M", "ImportFailed", "m.py:1: ModuleNotFoundError: No module named 'nosuch'; ship"),
        ("x = 1\ndef f(:\n", "m:M", "ImportFailed", "m.py:2: SyntaxError: invalid syntax"),
        ("raise SystemExit(3)\n", "m:M", "ImportFailed", "m.py:1: SystemExit: the code called exit(3)"),
        ("class N: ...\n", "m:M", "EntryPointMissing", "m.py: there is no 'M'; it has N"),
        ("M = 3\n", "m:M", "WrongType", "is int, not a subclass"),
        ("import os\n", "m:os.system", "WrongType", "is builtin_function_or_method"),
        ("import os\n", "os:system", "EntryPointOutside", "outside the module's own source"),
        (HEAD, "m:BaseModuleRouter", "EntryPointOutside", "is not defined in the module's own source"),
        (HEAD + "class M(BaseModuleRouter): ...\n", "m:M", "WrongType", "m.py:2: M does not implement register_routes"),
        (
            HEAD + "class M(BaseModuleRouter):\n    def register_routes(self, router): ...\n",
            "m:M",
            "CreateFailed",
            "TypeError: M does not say who it is",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n    create_instance = classmethod(lambda cls: 7)\n"
            "    def register_routes(self, router): ...\n",
            "m:M",
            "CreateFailed",
            "m.py:2: M: create_instance() returned int",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n    create_instance = classmethod(lambda cls: cls())\n"
            "    def __init__(self): ...\n    def register_routes(self, router): ...\n",
            "m:M",
            "CreateFailed",
            "the module has no ModuleMetadata",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
            "    def register_routes(self, router):\n        1 / 0\n",
            "m:M",
            "RegisterFailed",
            "m.py:5: ZeroDivisionError",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
            "    def register_routes(self, router):\n        @router.get('/health')\n        def h(): ...\n",
            "m:M",
            "RouteRefused",
            "m.py:5: the route '/health' is not allowed; the gateway answers it: override check_health()",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
            "    def register_routes(self, router):\n        router.mount('/', print)\n",
            "m:M",
            "RouteRefused",
            "a mount at the module's root is not allowed",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
            "    def register_routes(self, router):\n        router.host('x', None)\n",
            "m:M",
            "RouteRefused",
            "addressed by path only",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
            "    def register_routes(self, router):\n        @router.get('')\n        def h(): ...\n",
            "m:M",
            "RouteRefused",
            "begin it with '/'",
        ),
        (
            "import importlib\nimportlib.import_module('m.lazy')\n",
            "m:M",
            "ImportFailed",
            "write importlib.import_module('.name', __package__)",
        ),
        ("import m.missing\n", "m:M", "ImportFailed", "m.py:1: ModuleNotFoundError: No module named 'm.missing'"),
        ("__path__ = ['/usr/lib']\n", "m.tmp:M", "ImportFailed", "the package's __path__ leads out of its own source"),
        ("import os\n", "m.os:system", "ImportFailed", "No module named 'm.os'"),
        ("from fastapi import APIRouter\n", "m:APIRouter", "WrongType", "is APIRouter, not a subclass"),
        (
            HEAD + "class M(BaseModuleRouter):\n    def register_routes(self, router): ...\n",
            "m:M.__base__",
            "EntryPointOutside",
            "is not defined in the module's own source",
        ),
        ("def __getattr__(name): raise SystemExit\n", "m:M", "EntryPointMissing", "m.py:1: SystemExit"),
        (
            HEAD + "class M(BaseModuleRouter):\n    metadata = property(lambda self: 1 / 0)\n"
            "    create_instance = classmethod(lambda cls: cls.__new__(cls))\n"
            "    def register_routes(self, router): ...\n",
            "m:M",
            "CreateFailed",
            "m.py:3: ZeroDivisionError",
        ),
    ],
)
def test_what_will_fail_again_says_why_and_where(
    make: Make, text: str, entry_point: str, reason: str, message: str, tmp_path: Path
) -> None:
    digest = sources.store(tmp_path, {"m.py": text})
    wanted = sources.desired(digest, entry_point, [], source_path="m")
    before = set(sys.modules)
    with pytest.raises(LoadFailed) as caught:
        building.build(wanted, name="m", uid="u", generation=1, code_root=tmp_path)
    assert caught.value.reason == reason
    assert message in caught.value.message
    assert not caught.value.retryable
    assert "modplane_modules" not in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert not [name for name in set(sys.modules) - before if name.startswith("modplane_modules.")]


def test_other_routes_than_desired_are_refused_by_name(make: Make) -> None:
    with pytest.raises(LoadFailed, match=r"more GET /hello, fewer GET /bye") as caught:
        make(sources.SMALL, "small:Small", [("GET", "/bye")])
    assert caught.value.reason == "RoutesDiffer"


def test_code_that_is_not_on_this_machine_may_come_later(tmp_path: Path) -> None:
    wanted = sources.desired("sha256:" + "0" * 64, "m:M", [])
    with pytest.raises(StartFailed, match="does not hold 'm'") as caught:
        building.build(wanted, name="m", uid="u", generation=1, code_root=tmp_path)
    assert caught.value.retryable
    with pytest.raises(LoadFailed, match="not a source digest"):
        building.locate(wanted.model_copy(update={"digest": "../../etc"}), tmp_path)


HOOKS = HEAD + (
    "from contextlib import asynccontextmanager\nimport asyncio\nfrom fastapi import APIRouter, Request\nSEEN = []\n"
    "@asynccontextmanager\nasync def lifespan(app):\n    SEEN.append('enter')\n    yield {'pool': 7}\n"
    "    SEEN.append('leave')\n"
    "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
    "    async def on_startup(self):\n        SEEN.append('up')\n"
    "        if self.config.get('hang'):\n            await self.hang()\n"
    "        if self.config.get('exit'):\n            raise SystemExit(1)\n"
    "    async def hang(self):\n        try:\n            await asyncio.Event().wait()\n"
    "        finally:\n            SEEN.append('cancelled')\n"
    "    async def on_shutdown(self):\n        SEEN.append('down')\n"
    "        if self.config.get('hang_down'):\n            await self.hang()\n"
    "        if self.config.get('fail_down'):\n            raise RuntimeError('no')\n"
    "    async def check_health(self):\n        return self.config.get('healthy')\n"
    "    def register_routes(self, router):\n"
    "        part = APIRouter(lifespan=lifespan)\n"
    "        router.include_router(part)\n"
)


def seen(instance: Instance) -> list[str]:
    module = sys.modules[type(instance.module).__module__]
    return list(module.SEEN)


async def test_lifespans_and_hooks_run_in_order_and_hand_over_their_state(make: Make) -> None:
    instance = make(HOOKS, "m:M", [])
    await instance.start(5)
    assert instance.state == {"pool": 7}
    assert seen(instance) == ["enter", "up"]
    assert (await instance.check(5)).healthy
    await instance.stop(5)
    assert seen(instance) == ["enter", "up", "down", "leave"]
    await make(HOOKS, "m:M", [], config={}).stop(1)


async def test_a_module_may_say_that_it_is_not_healthy(make: Make) -> None:
    answer = await make(HOOKS, "m:M", [], config={"healthy": False}).check(5)
    assert (answer.healthy, answer.reason) == (False, "CheckFailed")


async def test_a_failing_start_is_told_with_its_line_and_ends_nothing_else(make: Make) -> None:
    instance = make(HOOKS, "m:M", [], config={"exit": True})
    with pytest.raises(StartFailed, match=r"m.py:18: SystemExit") as caught:
        await instance.start(5)
    assert (caught.value.reason, caught.value.retryable) == ("LifespanFailed", True)


async def test_a_hanging_start_is_cancelled_and_says_where_it_waited(make: Make) -> None:
    instance = make(HOOKS, "m:M", [], config={"hang": True})
    with pytest.raises(StartFailed, match=r"did not finish within 0.05 s; it waits at m.py:21") as caught:
        await instance.start(0.05)
    assert caught.value.reason == "LifespanTimedOut"
    assert "cancelled" in seen(instance)


async def test_a_start_that_is_cancelled_from_outside_leaves_nothing_running(make: Make) -> None:
    instance = make(HOOKS, "m:M", [], config={"hang": True})
    starting = asyncio.ensure_future(instance.start(60))
    while "up" not in seen(instance):
        await asyncio.wait({starting}, timeout=0.001)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert "cancelled" in seen(instance)


@pytest.mark.parametrize("trouble", ["hang_down", "fail_down"])
async def test_a_stop_in_trouble_never_raises(make: Make, trouble: str) -> None:
    instance = make(HOOKS, "m:M", [], config={trouble: True})
    await instance.start(5)
    await instance.stop(0.05)
    assert "down" in seen(instance)


async def test_an_unloaded_instance_is_collected_with_its_code(tmp_path: Path) -> None:
    wanted = sources.desired(sources.store(tmp_path, {"m.py": HOOKS}), "m:M", [])
    instance = building.build(wanted, name="m", uid="u", generation=2, code_root=tmp_path)
    await instance.start(5)
    await instance.stop(5)
    module = weakref.ref(sys.modules[type(instance.module).__module__])
    app = weakref.ref(instance.app)
    instance.unload()
    instance.unload()
    gc.collect()
    assert app() is None
    assert module() is None


def test_a_configuration_change_shares_the_code(make: Make) -> None:
    first = make(sources.SMALL, "small:Small", [("GET", "/hello")], config={"n": 1})
    second = make(sources.SMALL, "small:Small", [("GET", "/hello")], config={"n": 2})
    assert type(first.module) is type(second.module)
    first.unload()
    assert get(second, "/hello").json()["config"] == {"n": 2}
    second.unload()


@pytest.mark.parametrize(("beside_requests", "loop_works"), [(True, True), (True, False), (False, True)])
def test_a_build_in_a_thread_gives_way_to_requests_where_there_are_any(
    make: Make, monkeypatch: pytest.MonkeyPatch, beside_requests: bool, loop_works: bool
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(turns, "served_seconds", itertools.count(0.0, 1.0 if loop_works else 0.0).__next__)
    monkeypatch.setattr(turns, "_WORK_SECONDS", -1.0)
    monkeypatch.setattr(turns, "_PEACE_SECONDS", -1.0)
    monkeypatch.setattr("dataplane.runtime.turns.time.sleep", rests.append)
    built: list[Instance] = []

    def work() -> None:
        with turns.short() if beside_requests else contextlib.nullcontext():
            built.append(make(*TWENTY))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(built[0].routes) == 20
    assert len(rests) == (23 if beside_requests else 0)
    assert rests.count(turns._REST_SECONDS) == (22 if beside_requests and loop_works else 0)


def test_a_build_offers_its_turn_after_a_bounded_number_of_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, between = itertools.count(), [0]

    def count(*_: object) -> None:
        next(steps)

    make(*TWENTY)  # what libraries do once only is done
    monkeypatch.setattr(turns, "rest", lambda: between.append(next(steps)))
    sys.setprofile(count)
    try:
        make(TWENTY[0] + "# another\n", *TWENTY[1:])
    finally:
        sys.setprofile(None)
    between.append(next(steps))
    lengths = [after - before for before, after in itertools.pairwise(between)]
    assert max(lengths) < sum(lengths) / 4, lengths
    assert max(lengths) < MOST_STEPS, lengths


def test_a_table_in_a_function_is_refused_with_advice_when_the_code_has_a_second_instance(make: Make) -> None:
    text = HEAD + (
        "from sqlmodel import Column, Integer, SQLModel, Table\n"
        "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n"
        "    def register_routes(self, router):\n"
        "        Table('thing', SQLModel.metadata, Column('id', Integer))\n"
    )
    make(text, "m:M", [])
    with pytest.raises(LoadFailed) as caught:
        make(text, "m:M", [], config={"another": 1})
    assert "m.py:6: InvalidRequestError: Table 'thing' is already defined" in caught.value.message
    assert "define tables at the top level" in caught.value.message


def test_middleware_and_lifespan_of_a_module_are_its_own(make: Make) -> None:
    text = HEAD + (
        "from contextlib import asynccontextmanager\nfrom fastapi.middleware import Middleware\n"
        "class Named:\n"
        "    def __init__(self, app, name): self.app, self.name = app, name\n"
        "    async def __call__(self, scope, receive, send):\n"
        "        scope.setdefault('names', []).append(self.name)\n"
        "        await self.app(scope, receive, send)\n"
        "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m')\n    log = []\n"
        "    def middleware(self): return [Middleware(Named, 'outer'), Middleware(Named, name='inner')]\n"
        "    @asynccontextmanager\n    async def lifespan(self, app):\n"
        "        self.log.append('begin')\n        yield {'a': 1}\n        self.log.append('end')\n"
        "    async def on_startup(self): self.log.append('startup')\n"
        "    async def on_shutdown(self): self.log.append('shutdown')\n"
        "    def register_routes(self, router):\n"
        "        from fastapi import Request\n"
        "        def names(request: Request): return request.scope['names']\n"
        "        router.add_api_route('/names', names)\n"
    )
    instance = make(text, "m:M", [("GET", "/names")])
    assert get(instance, "/names").json() == ["outer", "inner"]

    async def live() -> None:
        await instance.start(5)
        assert instance.state == {"a": 1}
        await instance.stop(5)

    asyncio.run(live())
    assert vars(type(instance.module))["log"] == ["begin", "startup", "shutdown", "end"]


CONFIDED = (
    HEAD
    + """
class M(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="m", version="1.0.0")

    def register_routes(self, router):
        if self.config.get("fail"):
            raise ValueError(f"cannot use {self.config}")

    async def on_startup(self):
        raise ValueError(f"no luck with {self.config['key']!r}")
"""
)


def test_a_built_module_has_values_where_its_configuration_has_references(make: Make) -> None:
    secrets = confiding.Secrets({"MODPLANE_SECRET_API_KEY": "built-in-c4nary"})
    instance = make(CONFIDED, "m:M", [], config={"key": "secret://api-key", "other": 1}, secrets=secrets)
    assert instance.module.config == {"key": "built-in-c4nary", "other": 1}
    assert instance.desired.config == {"key": "secret://api-key", "other": 1}
    with pytest.raises(StartFailed, match="ValueError: no luck with 'secret://api-key'"):
        asyncio.run(instance.start(5))


def test_what_a_build_says_of_its_failure_has_references_where_the_code_saw_values(make: Make) -> None:
    secrets = confiding.Secrets({"MODPLANE_SECRET_API_KEY": "built-in-c4nary"})
    with pytest.raises(LoadFailed) as caught:
        make(CONFIDED, "m:M", [], config={"key": "secret://api-key", "fail": True}, secrets=secrets)
    assert "ValueError: cannot use {'key': 'secret://api-key', 'fail': True}" in caught.value.message


def test_without_its_secret_nothing_is_built(make: Make) -> None:
    with pytest.raises(StartFailed, match="secret://api-key") as caught:
        make("raise AssertionError('imported')", "m:M", [], config={"key": "secret://api-key"})
    assert caught.value.reason == "SecretMissing"
