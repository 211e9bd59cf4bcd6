"""Whatever dies or stops, each decision and each change is one record of the audit trail, or is counted in one."""

import contextlib
import json
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.doubles.platform import BY_HAND, Platform, manifest, running, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SOURCE = '''"""One route for everybody who is known, one for administrators."""

from fastapi import APIRouter

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth


class VaultModule(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="vault", version="1.0.0")

    def register_routes(self, router: APIRouter) -> None:
        @router.get("/read")
        async def read() -> str:
            return "read"

        @router.get("/rule")
        @require_module_auth("ADMIN")
        async def rule() -> str:
            return "rule"
'''
SMALL = {"MODPLANE_AUDIT_SPOOL_BYTES": "65536"}


@contextlib.contextmanager
def vault(folder: Path, **environment: str) -> Iterator[Platform]:
    """A platform that serves the module, with one worker."""
    with running(folder, examples=False, environment={**BY_HAND, **environment}) as started:
        (started.modules / "vault.py").write_text(SOURCE)
        started.cli("apply", "--wait", "-f", "-", stdin=manifest("vault"))
        yield started


class Caller:
    """Calls, and remembers under which request id each was answered."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        token = platform.cli("token", "create", "--sub", "ada", "--role", "admin").strip()
        self.headers = {"authorization": f"Bearer {token}"}
        self.answered: Counter[int] = Counter()
        self.ids: set[str] = set()

    def call(self, path: str = "read", *, known: bool = True) -> int:
        """One call; 0 when there was no answer."""
        request = uuid.uuid4().hex
        headers = {"x-request-id": request, **(self.headers if known else {})}
        try:
            status = self.platform.call(f"v1/vault/{path}", headers=headers).status_code
        except httpx.HTTPError:
            status = 0
        if status:
            self.ids.add(request)
        self.answered[status] += 1
        return status


def trail(platform: Platform) -> list[dict[str, Any]]:
    """All records, the oldest first; empty while the control plane is away."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        asked: dict[str, str | int] = {"newest": "false", "after": after, "limit": 10_000}
        try:
            answer = platform.admin.get(f"{platform.control}/api/v1/module-management/audit", params=asked)
        except httpx.HTTPError:
            return []
        if answer.status_code != 200:
            return []
        page = answer.json()
        found += page["records"]
        if page["next"] is None:
            return found
        after = page["next"]


def missing(records: list[dict[str, Any]], writer: str) -> int:
    return sum(each.get("count", 0) for each in records if each["kind"] == "gap" and each["writer"] == writer)


def decisions(records: list[dict[str, Any]]) -> Counter[str]:
    return Counter(each.get("request", "") for each in records if each["kind"] == "decision")


def accounted(platform: Platform, caller: Caller, extra: int = 0) -> bool:
    """Whether every answered call is one record or counted; ``extra`` calls without answer may be so too."""
    records = trail(platform)
    told = decisions(records)
    assert not told or max(told.values()) == 1
    kept = sum(1 for each in caller.ids if told[each])
    lost = missing(records, "w0")
    return len(caller.ids) <= kept + lost <= len(caller.ids) + extra


def verified(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(platform.cli("audit", "verify", "-o", "json"))
    assert found["ok"], found
    return found


def seen(platform: Platform) -> Any:
    return lambda: json.dumps(trail(platform)[-5:])


def test_a_worker_that_is_killed_loses_nothing_unsaid(tmp_path: Path) -> None:
    with vault(tmp_path) as platform:
        caller = Caller(platform)
        for _ in range(5):
            for _ in range(60):
                caller.call()
            before = caller.answered[200]
            platform.child("dataplane", "w0").kill()
            wait_for(lambda: caller.call() == 200 and caller.answered[200] > before, what="a worker answers again")  # noqa: B023
        wait_for(lambda: accounted(platform, caller, extra=caller.answered[0]), what=seen(platform))
        records = trail(platform)
        ends = Counter(each["reason"] for each in records if each["kind"] == "end" and each["writer"] == "w0")
        assert ends == {"Crashed": 5}
        verified(platform)


def test_a_control_plane_that_is_killed_loses_no_change_unsaid(tmp_path: Path) -> None:
    with vault(tmp_path) as platform:
        changed: list[str] = []
        for number in range(12):
            flag = {"apiVersion": "modplane.dev/v1", "kind": "FeatureFlag", "metadata": {"name": f"f{number}"}}
            url = f"{platform.control}/apis/modplane.dev/v1/featureflags"
            wait_for(lambda: _posted(platform, url, flag, changed), what="the control plane takes a change")  # noqa: B023
            if number % 4 == 3:
                platform.child("controlplane", "serve").kill()

        def told() -> bool:
            records = trail(platform)
            made = Counter(each.get("resource") for each in records if each.get("verb") == "created")
            kept = len([name for name in changed if made[f"FeatureFlag/{name}"] == 1])
            return bool(records) and kept + missing(records, "controlplane") >= len(changed)

        wait_for(told, what=seen(platform))
        verified(platform)


def _posted(platform: Platform, url: str, flag: dict[str, Any], changed: list[str]) -> bool:
    try:
        status = platform.admin.post(url, json=flag).status_code
    except httpx.HTTPError:
        return False
    if status == 201:
        changed.append(flag["metadata"]["name"])
    return status in {201, 409}


def test_a_stopped_nats_loses_nothing(tmp_path: Path) -> None:
    with vault(tmp_path) as platform:
        caller = Caller(platform)
        caller.call()
        nats = platform.child("nats-server")
        nats.send_signal(signal.SIGSTOP)
        try:
            for _ in range(300):
                assert caller.call() == 200
                assert caller.call(known=False) == 401
        finally:
            nats.send_signal(signal.SIGCONT)
        wait_for(lambda: accounted(platform, caller), what=seen(platform))
        assert missing(trail(platform), "w0") == 0
        nats = platform.child("nats-server")
        nats.kill()
        for _ in range(100):
            assert caller.call() == 200
        wait_for(lambda: accounted(platform, caller), what=seen(platform))
        assert missing(trail(platform), "w0") == 0
        verified(platform)


def test_a_stopped_control_plane_loses_nothing(tmp_path: Path) -> None:
    with vault(tmp_path) as platform:
        caller = Caller(platform)
        plane = platform.child("controlplane", "serve")
        plane.send_signal(signal.SIGSTOP)
        try:
            for _ in range(300):
                assert caller.call() == 200
        finally:
            plane.send_signal(signal.SIGCONT)
        wait_for(lambda: accounted(platform, caller), what=seen(platform))
        assert missing(trail(platform), "w0") == 0
        verified(platform)


def test_a_full_spool_closes_admin_routes_and_counts_the_rest(tmp_path: Path) -> None:
    with vault(tmp_path, **SMALL) as platform:
        caller = Caller(platform)
        assert caller.call("rule") == 200
        nats = platform.child("nats-server")
        nats.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: {caller.call() for _ in range(20)} == {200} and _full(platform), step=0.0)
            assert caller.call("rule") == 503
            assert caller.call("rule", known=False) == 401
            for _ in range(50):
                assert caller.call() == 200
        finally:
            nats.send_signal(signal.SIGCONT)
        wait_for(lambda: not _full(platform), what="there is room again")
        assert caller.call("rule") == 200
        wait_for(lambda: accounted(platform, caller), what=seen(platform))
        records = trail(platform)
        assert missing(records, "w0") >= 52
        assert {each["reason"] for each in records if each["kind"] == "gap"} == {"SpoolFull"}
        verified(platform)


def _full(platform: Platform) -> bool:
    return bool(platform.http.get(f"{platform.door}/modules/system/info").json()["audit"]["full"])


def test_what_somebody_does_to_the_file_is_named_by_the_command(tmp_path: Path) -> None:
    import sqlite3

    with vault(tmp_path) as platform:
        caller = Caller(platform)
        for _ in range(5):
            caller.call()
        wait_for(lambda: accounted(platform, caller), what=seen(platform))
        verified(platform)
        with contextlib.closing(sqlite3.connect(platform.data / "audit.db", timeout=30)) as database:
            (place,) = database.execute("SELECT max(id) FROM records WHERE body LIKE '%\"ada\"%'").fetchone()
            database.execute("UPDATE records SET body = replace(body, 'ada', 'eve') WHERE id = ?", (place,))
            database.commit()
        for more in ([], ["--file", str(platform.data)]):
            said = platform.cli("audit", "verify", *more, check=1)
            assert "first bad record of w0." in said
            assert f"id {place}, " in said


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_trail_of_a_system_that_is_stopped_or_killed_is_verified_where_it_lies(
    tmp_path: Path, end: signal.Signals
) -> None:
    with vault(tmp_path) as platform:
        caller = Caller(platform)
        for _ in range(5):
            caller.call()
        wait_for(lambda: accounted(platform, caller), what=seen(platform))
        if end is signal.SIGKILL:
            platform.child("controlplane", "serve").kill()
        platform.stop(end)
        before = {each.name for each in platform.data.iterdir()}
        found = json.loads(platform.cli("audit", "verify", "--file", str(platform.data), "-o", "json"))
        assert found["ok"], found
        assert found["records"] > 5
        assert {each.name for each in platform.data.iterdir()} == before
