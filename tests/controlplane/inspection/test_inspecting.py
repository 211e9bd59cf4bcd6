"""The pool over the real inspection process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from controlplane import errors
from controlplane.inspection import inspecting
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest
from tests.doubles import sources
from tests.doubles.polling import until

pytestmark = pytest.mark.processes

Inspect = Callable[..., Awaitable[InspectionReport]]


@pytest.fixture
async def pool() -> AsyncIterator[inspecting.InspectionPool]:
    pool = inspecting.InspectionPool()
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def inspect(pool: inspecting.InspectionPool, tmp_path: Path) -> Inspect:
    async def inspected(text: str, entry_point: str | None = None, timeout: float = 5.0) -> InspectionReport:
        digest = sources.store(tmp_path, {"m.py": text})
        return await pool.inspect(
            InspectionRequest(
                id="mine",
                root=str(tmp_path / digests.folder_name(digest)),
                source_path="m",
                digest=digest,
                entry_point=entry_point,
                timeout_seconds=timeout,
            )
        )

    return inspected


async def test_one_after_the_other_is_inspected(inspect: Inspect) -> None:
    for _ in range(7):
        report = await inspect(sources.SMALL, "m:Small")
        assert (report.id, report.outcome, len(report.routes)) == ("mine", InspectionOutcome.OK, 1)
    assert report.host_version.startswith("python/")


async def test_an_endless_import_ends_at_its_time_and_names_the_line(inspect: Inspect) -> None:
    report = await inspect("x = 1\nwhile x:\n    pass\n", timeout=3.0)
    assert report.outcome is InspectionOutcome.TIMED_OUT
    assert report.message.startswith("m.py:")
    assert "did not finish within 3 s" in report.message


async def test_an_inspector_that_is_killed_twice_is_held_against_the_code(inspect: Inspect, tmp_path: Path) -> None:
    note = tmp_path / "at work"
    text = f"import os\nopen({str(note)!r}, 'w').write(str(os.getppid()))\nwhile True: pass\n"
    deadly, killed = asyncio.ensure_future(inspect(text, timeout=100.0)), [""]

    def another() -> str:
        """The inspection process that is at it now."""
        told = note.read_text() if note.exists() else ""
        return "" if told in killed else told

    for _ in range(2):
        killed.append(await until(another, timeout=60.0))
        os.kill(int(killed[-1]), signal.SIGKILL)
    report = await deadly
    assert (report.outcome, report.reason) == (InspectionOutcome.CRASHED, "InspectorKilled")
    assert (await inspect(sources.SMALL)).outcome is InspectionOutcome.OK


def _zygotes() -> list[psutil.Process]:
    """The inspection processes, the oldest first."""
    found = [child for child in psutil.Process().children() if child.cmdline()[1:] == list(inspecting.COMMAND[1:])]
    return sorted(found, key=psutil.Process.create_time)


def _told(text: str, say: str = "os.getpid()") -> str:
    """A module that does ``text`` at its import and reports in its description what ``say`` gives then."""
    return f"import os\n{text}\n" + sources.SMALL.replace(
        'module_id="small"', f'module_id="small", description=str({say})'
    )


async def test_of_many_at_once_each_is_inspected(inspect: Inspect, tmp_path: Path) -> None:
    log = tmp_path / "log"
    texts = [_told(f"open({str(log)!r}, 'a').write('{number}\\n')", str(number)) for number in range(24)]
    reports = await asyncio.gather(*(inspect(text, "m:Small") for text in texts))
    assert {report.outcome for report in reports} == {InspectionOutcome.OK}
    assert [report.candidates[0].description for report in reports] == [str(number) for number in range(24)]
    assert sorted(set(map(int, log.read_text().split()))) == list(range(24))


async def test_what_goes_wrong_behind_others_is_held_against_nobody_else(inspect: Inspect) -> None:
    rude = _told("import sys\nsys.modules['elsewhere'] = sys")
    leaver = _told("os.environ['LEFT'] = 'yes'")
    nothing = "import sys\nassert 'LEFT' not in os.environ and 'elsewhere' not in sys.modules"
    polite = [_told(f"{nothing}, {number}") for number in range(6)]
    crash, broken = _told("os._exit(3)"), _told("import nosuch")
    endless = asyncio.ensure_future(inspect(_told("while True: pass"), "m:Small", timeout=1.0))
    reports = await asyncio.gather(
        *(inspect(text, "m:Small") for text in [rude, *polite[:2], leaver, *polite[2:4], crash, broken, *polite[4:]])
    )
    assert [report.outcome.value for report in reports] == [*["ok"] * 6, "crashed", "failed", "ok", "ok"]
    assert (await endless).outcome is InspectionOutcome.TIMED_OUT


async def test_settings_and_the_folder_we_run_in_are_hidden_from_the_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODPLANE_DATABASE_URL", "postgresql://user:secret@host/db")
    pool = inspecting.InspectionPool()
    text = "import os, sys\nassert not [k for k in os.environ if k.startswith('MODPLANE')]\nassert os.getcwd() == '/'\n"
    digest = sources.store(tmp_path, {"m.py": text})
    request = InspectionRequest(
        id="1", root=str(tmp_path / digests.folder_name(digest)), source_path="m", digest=digest
    )
    assert (await pool.inspect(request)).outcome is InspectionOutcome.OK
    await pool.close()
    with pytest.raises(errors.Unreachable, match="shutting down"):
        await pool.inspect(request)


@pytest.mark.parametrize(
    "command", [("/nonexistent/python",), (sys.executable, "-c", "pass"), (sys.executable, "-c", "print('[]')")]
)
async def test_an_inspector_that_does_not_come_up_is_told(command: tuple[str, ...]) -> None:
    pool = inspecting.InspectionPool(command=command)
    with pytest.raises(errors.Unreachable, match="inspection process") as caught:
        await pool.start()
    assert caught.value.retryable
    await pool.close()


async def test_an_inspector_that_stays_silent_is_replaced(tmp_path: Path) -> None:
    silent = (sys.executable, "-c", 'import sys, time; print(\'{"hostVersion": "x"}\', flush=True); time.sleep(60)')
    pool = inspecting.InspectionPool(command=silent, grace=0.0)
    request = InspectionRequest(id="1", root=str(tmp_path), source_path="m", digest="d", timeout_seconds=0.05)
    report = await pool.inspect(request)
    assert report.reason == "InspectorKilled"
    await pool.close()


async def test_lines_that_are_no_reports_are_ignored(tmp_path: Path) -> None:
    chatty = (
        'import sys\nprint(\'{"hostVersion": "x"}\', flush=True)\nfor line in sys.stdin:\n'
        '    print(\'noise\', flush=True)\n    print(\'{"id": "99", "outcome": "ok"}\', flush=True)\n'
        '    print(\'{"id": "1", "outcome": "ok"}\', flush=True)\n'
    )
    pool = inspecting.InspectionPool(command=(sys.executable, "-c", chatty))
    request = InspectionRequest(id="a", root=str(tmp_path), source_path="m", digest="d")
    assert (await pool.inspect(request)).id == "a"
    await pool.close()


async def test_nothing_survives_the_pool(tmp_path: Path) -> None:
    pool = inspecting.InspectionPool()
    digest = sources.store(
        tmp_path,
        {"m.py": f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid()))\nwhile 1: pass\n"},
    )
    request = InspectionRequest(
        id="1", root=str(tmp_path / digests.folder_name(digest)), source_path="m", digest=digest
    )
    running = asyncio.ensure_future(pool.inspect(request))
    pid = int(await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), timeout=60.0))
    await pool.close()
    with pytest.raises(errors.Unreachable):
        await running
    await until(lambda: not _alive(pid), timeout=60.0)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"


async def test_a_child_in_reserve_that_is_ended_from_outside_is_replaced(
    pool: inspecting.InspectionPool, inspect: Inspect
) -> None:
    def children() -> list[psutil.Process]:
        return _zygotes()[-1].children()

    await until(lambda: len(children()) == 1, timeout=60.0)
    (reserve,) = children()
    reserve.kill()
    await until(lambda: [child for child in children() if child.pid != reserve.pid], timeout=60.0)
    assert (await inspect(sources.SMALL, "m:Small")).outcome is InspectionOutcome.OK
    await until(lambda: len(children()) == 1, timeout=60.0)
