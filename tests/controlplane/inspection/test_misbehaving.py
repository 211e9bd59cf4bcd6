"""Every way in which a module can behave badly while it is inspected, each in the real inspection process.

One process inspects them all, one after the other; after each of them a module that behaves is inspected as ever.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from controlplane.inspection import inspecting
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest
from tests.doubles import sources
from tests.doubles.polling import until

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

PATIENCE = 60.0
"""Seconds for code that is expected to end by itself."""

SHARED = "changes what every module of a worker runs on"
HANG = "while True: pass"

FAILS = {
    "import error": ("import nosuch", "ImportFailed", "m.py:1: ModuleNotFoundError"),
    "syntax error": ("def (:", "ImportFailed", "m.py:1: SyntaxError"),
    "SystemExit": ("raise SystemExit(0)", "ImportFailed", "m.py:1: SystemExit"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "ImportFailed", "m.py:1: KeyboardInterrupt"),
    "GeneratorExit": ("raise GeneratorExit", "ImportFailed", "m.py:1: GeneratorExit"),
    "BaseException": ("class Mine(BaseException): ...\nraise Mine('x')", "ImportFailed", "m.py:2: Mine: x"),
    "error that cannot be shown": (
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
        "ImportFailed",
        "m.py:3: E",
    ),
    "endless recursion": ("def f(): f()\nf()", "ImportFailed", "RecursionError"),
    "memory": ("x = bytearray(10 << 30)", "ImportFailed", "MemoryError; code has 2 GiB of memory while"),
    "output": ("while True: print('x' * 10000)", "ImportFailed", "16 MiB for each file and for what it prints"),
    "error output": (
        "import sys\nwhile True: sys.stderr.write('x' * 10000)",
        "ImportFailed",
        "16 MiB for each file and for what it prints",
    ),
    "file": ("open('HERE/big', 'wb').write(bytes(64 << 20))", "ImportFailed", "16 MiB for each file"),
    "descriptors": ("x = [open('/dev/null') for _ in range(1000)]", "ImportFailed", "256 open files"),
    "fork bomb": ("import os\nwhile True: os.fork()", "ImportFailed", "64 processes and threads"),
    "thread bomb": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1e6,)).start()",
        "ImportFailed",
        "64 processes and threads",
    ),
    "limits raised": (
        "import resource as r\nr.setrlimit(r.RLIMIT_AS, (r.RLIM_INFINITY, r.RLIM_INFINITY))",
        "ImportFailed",
        "m.py:2: ValueError",
    ),
    "limits lowered": (
        "import resource as r\nr.setrlimit(r.RLIMIT_NOFILE, (50, r.getrlimit(r.RLIMIT_NOFILE)[1]))",
        "HostChanged",
        "the process's limits",
    ),
    "standard output closed": ("import os\nos.close(1)", "HostChanged", "standard input and output"),
    "standard error exchanged": (
        "import os\nos.dup2(os.open('/dev/null', os.O_WRONLY), 2)",
        "HostChanged",
        "standard input and output",
    ),
    "signals ignored": (
        "import signal\nfor s in (signal.SIGTERM, signal.SIGALRM, signal.SIGXCPU): signal.signal(s, signal.SIG_IGN)",
        "HostChanged",
        "signal handlers",
    ),
    "json exchanged": ("import sys, types\nsys.modules['json'] = types.ModuleType('json')", "HostChanged", "'json'"),
    "module of Python made up": (
        "import sys, types\nsys.modules['sched'] = types.ModuleType('sched')",
        "HostChanged",
        "sys.modules['sched']",
    ),
    "module of Python forbidden": ("import sys\nsys.modules['sched'] = None", "HostChanged", "sys.modules['sched']"),
    "json patched": ("import json\njson.dumps = json.loads = None", "HostChanged", "json.dumps, json.loads"),
    "pydantic patched": (
        "import pydantic\npydantic.BaseModel.model_dump_json = lambda *a, **k: '{}'",
        "HostChanged",
        "pydantic.main.BaseModel.model_dump_json",
    ),
    "FastAPI patched": (
        "import fastapi\nfastapi.APIRouter.add_api_route = lambda *a, **k: None",
        "HostChanged",
        "fastapi.routing.APIRouter.add_api_route",
    ),
    "builtins patched": ("import builtins\nbuiltins.isinstance = lambda *a: True", "HostChanged", "isinstance"),
    "our own code patched": (
        "from dataplane.runtime import collecting\ncollecting.collect = lambda *a: []",
        "HostChanged",
        "dataplane.runtime.collecting.collect",
    ),
    "os._exit hangs": (
        "import os, time\nos._exit = os.write = lambda *a: time.sleep(1e6)",
        "HostChanged",
        "os.write, os._exit",
    ),
    "folder changed": ("import os\nos.chdir('/tmp')", "HostChanged", "the working directory"),
    "umask changed": ("import os\nos.umask(0o123)", "HostChanged", "the umask"),
    "a session of its own": ("import os\nos.setsid()", "ImportFailed", "m.py:2: PermissionError"),
}

CRASHES = {
    "os._exit": ("import os\nos._exit(3)", "ProcessDied", "ended with exit code 3"),
    "os._exit(0)": ("import os\nos._exit(0)", "ProcessDied", "ended with exit code 0"),
    "abort": ("import os\nos.abort()", "ProcessDied", "m.py:2: the process that imported the code was ended by signal"),
    "segfault": ("import ctypes\nctypes.string_at(0)", "ProcessDied", "m.py:2: the process that imported the code was"),
    "kill": ("import os\nos.kill(os.getpid(), 9)", "ProcessDied", "signal SIGKILL"),
    "stack": (
        "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(): [*map(lambda _: f(), 'x')]\nf()",
        "ProcessDied",
        "signal SIGSEGV",
    ),
    "every descriptor closed": ("import os\nos.closerange(0, 1000)", "AnswerLost", "closed or replaced"),
    "answers exchanged": (
        "import os\nos.dup2(os.open('/dev/null', os.O_WRONLY), 3)",
        "AnswerLost",
        "closed or replaced",
    ),
    "requests closed": ("import os\nos.close(4)", "AnswerLost", "closed or replaced"),
    "noise among the answers": (
        "import os\nos.write(3, b'\\0\\0\\0\\2{}')",
        "AnswerUnreadable",
        "wrote into our answer",
    ),
    "flood of answers": ("import os\nos.write(3, b'\\xff' * (5 << 20))", "AnswerTooLong", "longer than 4 MiB"),
    "no builtins left": ("import builtins\nvars(builtins).clear()", "InspectionFailed", "could not go on"),
}

HANGS = {
    "loop": HANG,
    "sleep": "import time\ntime.sleep(1e6)",
    "loop that catches everything": f"while True:\n    try:\n        {HANG}\n    except BaseException: ...",
    "loop that ignores signals": f"import signal\nfor s in range(1, 31):\n    try: signal.signal(s, signal.SIG_IGN)\n"
    f"    except OSError: ...\n{HANG}",
    "memory": "x = []\nwhile True:\n    try: x.append(bytearray(1 << 30))\n    except MemoryError: ...",
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: ...",
    "fork bomb in sessions": "import os\nwhile True:\n    try: os.fork() or os.setsid()\n    except OSError: ...",
    "lock": "import threading\nthreading.Lock().acquire() and threading.Event().wait()",
    "read of our requests": "import os\nos.read(4, 1)",
}

BEHAVES = {
    "environment changed": "import os\nos.environ['LEFT'] = 'yes'\nos.environ.pop('PATH')",
    "path changed": "import sys\nsys.path.insert(0, '/tmp')",
    "exit hook that hangs": "import atexit, time\natexit.register(time.sleep, 1e6)",
    "threads left": "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,)).start()",
    "child left": "import subprocess\nx = subprocess.Popen(['sleep', '1000'])",
    "forked": "import os\nos.fork()",
}

ROUTES = {
    "mount at the root": ("router.mount('/', hello)", "RouteRefused", "a mount at the module's root is not allowed"),
    "mount at nothing": ("router.mount('', hello)", "RouteRefused", "a mount at the module's root is not allowed"),
    "mount past the router": (
        "router.dependency_overrides_provider.mount('/', hello)",
        "RouteRefused",
        "a mount at the module's root is not allowed",
    ),
    "mount of another host": ("router.host('other.example', hello)", "RouteRefused", "the host route 'other.example'"),
    "relative path": ("router.routes.append(Route('/x', hello)); router.routes[-1].path = 'x'", "RouteRefused", "'x'"),
    "route that takes everything": ("router.routes.append(Everything())", "RouteRefused", "the route path ''"),
    "health": ("router.add_api_route('/health', hello)", "RouteRefused", "the gateway answers it"),
    "middleware of the host": ("router.add_middleware(object)", "RegisterFailed", "has no attribute 'add_middleware'"),
    "middleware of every application": (
        "FastAPI.build_middleware_stack = lambda app: hello",
        "HostChanged",
        "fastapi.applications.FastAPI.build_middleware_stack",
    ),
    "method patched in": ("Router.app = Router.__call__ = hello", "HostChanged", "starlette.routing.Router.__call__"),
}

ROUTER = """
from fastapi import FastAPI
from starlette.routing import BaseRoute, Match, Route, Router
from dataplane.sdk import BaseModuleRouter, ModuleMetadata
class Everything(BaseRoute):
    def matches(self, scope): return Match.FULL, {}
async def hello(): ...
class M(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="m")
    def register_routes(self, router):
        """

POINTS = {
    "os:system": ("EntryPointOutside", "lies outside the module's own source 'm'"),
    "m.os:system": ("ImportFailed", "No module named 'm.os'"),
    "m:os.system": ("WrongType", "not a subclass of dataplane.sdk.BaseModuleRouter"),
    "m:APIRouter": ("WrongType", "is APIRouter, not a subclass"),
    "m:BaseModuleRouter": ("EntryPointOutside", "not defined in the module's own source"),
    "m:Small.__base__": ("EntryPointOutside", "not defined in the module's own source"),
    "m:Small.__init__.__globals__": ("WrongType", "is dict, not a subclass"),
    "m:Smal": ("EntryPointMissing", "m.py: there is no 'Smal'; it has"),
    "m:NUMBER": ("WrongType", "is int, not a subclass"),
    "..m:Small": ("EntryPointOutside", "lies outside"),
    "m..os:system": ("ImportFailed", "No module named"),
    "m/../os:system": ("EntryPointOutside", "lies outside"),
}

INNOCENT = sources.SMALL.replace(
    "from dataplane",
    "import os, sys, json, colorsys\nassert 'LEFT' not in os.environ and '/tmp' not in sys.path\nfrom dataplane",
    1,
)


class Inspector:
    """A pool, and modules for it."""

    def __init__(self, pool: inspecting.InspectionPool, folder: Path) -> None:
        self.pool = pool
        self.folder = folder

    async def __call__(self, text: str, entry_point: str | None = None, timeout: float = PATIENCE) -> InspectionReport:
        digest = sources.store(self.folder, {"m.py": text})
        root = self.folder / digests.folder_name(digest)
        request = InspectionRequest(
            id="1", root=str(root), source_path="m", digest=digest, entry_point=entry_point, timeout_seconds=timeout
        )
        return await self.pool.inspect(request)

    async def bystander(self) -> None:
        """A module that behaves is inspected as ever."""
        report = await self(INNOCENT, "m:Small")
        assert (report.outcome, len(report.routes)) == (InspectionOutcome.OK, 1), report.message

    def zygote(self) -> psutil.Process:
        """The inspection process."""
        mine = psutil.Process().children()
        (found,) = [child for child in mine if child.cmdline()[1:] == list(inspecting.COMMAND[1:])]
        return found

    def processes(self) -> list[psutil.Process]:
        """Everything below the inspection process."""
        return self.zygote().children(recursive=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("code")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inspect(folder: Path) -> AsyncIterator[Inspector]:
    pool = inspecting.InspectionPool()
    await pool.start()
    yield Inspector(pool, folder)
    await pool.close()


@pytest.mark.parametrize("case", FAILS)
async def test_code_that_fails_is_told_what_and_where(inspect: Inspector, case: str, folder: Path) -> None:
    text, reason, message = FAILS[case]
    report = await inspect(f"{text.replace('HERE', str(folder))}\n{sources.SMALL}", "m:Small")
    assert (report.outcome, report.reason) == (InspectionOutcome.FAILED, reason), report.message
    assert message in report.message
    assert (reason == "HostChanged") == (SHARED in report.message)
    await inspect.bystander()


@pytest.mark.parametrize("case", ROUTES)
async def test_routes_that_reach_beyond_the_module_are_refused(inspect: Inspector, case: str) -> None:
    statement, reason, message = ROUTES[case]
    report = await inspect(f"{ROUTER}{statement}\n", "m:M")
    assert (report.outcome, report.reason) == (InspectionOutcome.FAILED, reason), report.message
    assert message in report.message
    await inspect.bystander()


async def test_the_prefix_of_another_module_lies_below_ones_own(inspect: Inspector) -> None:
    statement = (
        "from fastapi import APIRouter\n        inner = APIRouter(prefix='/api/v1/modules/v1/other')\n"
        "        inner.add_api_route('/x', hello)\n        router.include_router(inner)\n"
    )
    report = await inspect(f"{ROUTER}{statement}", "m:M")
    assert [route.path for route in report.routes] == ["/api/v1/modules/v1/other/x"]


@pytest.mark.parametrize("entry_point", POINTS)
async def test_an_entry_point_resolves_only_inside_the_modules_own_source(inspect: Inspector, entry_point: str) -> None:
    reason, message = POINTS[entry_point]
    text = f"import os\nfrom fastapi import APIRouter\nNUMBER = 1\n{sources.SMALL}"
    report = await inspect(text, entry_point)
    assert (report.outcome, report.reason) == (InspectionOutcome.FAILED, reason), report.message
    assert message in report.message


@pytest.mark.parametrize("case", CRASHES)
async def test_code_that_ends_its_process_is_told_how(inspect: Inspector, case: str) -> None:
    text, reason, message = CRASHES[case]
    report = await inspect(f"{text}\n{sources.SMALL}", "m:Small")
    assert (report.outcome, report.reason) == (InspectionOutcome.CRASHED, reason), report.message
    assert message in report.message
    await inspect.bystander()


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(("loop that ignores signals", "sleep", "fork bomb in sessions"), id="some"),
        pytest.param(tuple(HANGS), marks=pytest.mark.slow, id="all"),
    ],
)
async def test_code_that_does_not_end_is_ended_at_its_time_and_others_do_not_wait(
    inspect: Inspector, cases: tuple[str, ...]
) -> None:
    hanging = {case: asyncio.ensure_future(inspect(HANGS[case], timeout=2.0)) for case in cases}
    await inspect.bystander()
    for case, report in hanging.items():
        assert (await report).reason == "InspectionTimedOut", case
        assert "did not finish within 2 s" in report.result().message, case
    await inspect.bystander()
    await until(lambda: len(inspect.processes()) <= 1, timeout=30.0)


@pytest.mark.parametrize("case", BEHAVES)
async def test_what_code_leaves_behind_nobody_finds_and_nothing_survives(inspect: Inspector, case: str) -> None:
    report = await inspect(f"{BEHAVES[case]}\n{sources.SMALL}", "m:Small")
    assert report.outcome is InspectionOutcome.OK, report.message
    await inspect.bystander()
    await until(lambda: len(inspect.processes()) <= 1, timeout=30.0)


async def test_a_process_that_has_daemonised_itself_does_not_survive(inspect: Inspector, folder: Path) -> None:
    note = folder / "daemon"
    text = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(note)!r}, 'w').write('here')\n"
        "        time.sleep(1e6)\n"
        "    os._exit(0)\n"
        f"while not os.path.exists({str(note)!r}): time.sleep(0.01)\n"
    )
    assert (await inspect(f"{text}{sources.SMALL}", "m:Small")).outcome is InspectionOutcome.OK
    assert note.exists()
    await until(lambda: len(inspect.processes()) <= 1, timeout=30.0)


async def test_code_that_forks_answers_once(inspect: Inspector) -> None:
    text = f"import os\nos.fork()\n{sources.SMALL}"
    reports = await asyncio.gather(*(inspect(f"{text}# {number}", "m:Small") for number in range(4)))
    assert [report.outcome.value for report in reports] == ["ok"] * 4
    await inspect.bystander()


async def test_processes_of_others_are_out_of_reach(inspect: Inspector) -> None:
    if os.getuid() != 0:
        pytest.skip("inspected code has a user of its own only if we are root")
    zygote = inspect.zygote()
    for victim in (zygote.pid, os.getpid()):
        report = await inspect(f"import os\nos.kill({victim}, 9)\n")
        assert (report.reason, "PermissionError" in report.message) == ("ImportFailed", True)
    await inspect.bystander()
    assert inspect.zygote() == zygote


async def test_however_many_hang_those_behind_them_come_first(folder: Path) -> None:
    pool = inspecting.InspectionPool()
    inspect, order = Inspector(pool, folder), list[str]()

    async def told(name: str, text: str, timeout: float) -> None:
        await inspect(text, "m:Small", timeout)
        order.append(name)

    await pool.start()
    sleeps = "import time\ntime.sleep(1e6)\n"
    hanging = [asyncio.ensure_future(told("hangs", f"# {number}\n{sleeps}", 1000.0)) for number in range(12)]
    good = [asyncio.ensure_future(told("good", f"{INNOCENT}# {number}", 1000.0)) for number in range(5)]
    try:
        await asyncio.wait(good, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        assert set(order) == {"good"}
    finally:
        await pool.close()
        await asyncio.gather(*hanging, *good, return_exceptions=True)
