"""A whole agent against a real NATS server: what it serves, what it reports, and what it survives."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import nats
import pytest

from dataplane.agent import agents, states
from dataplane.gateway import dispatching, hosting, pages
from dataplane.gateway.standing import Standing
from schemas import names
from schemas.flag import FlagDefinition
from schemas.reports import LastGoodState, WorkerReport, WorkerState
from tests.doubles import sources
from tests.doubles.asgi import call
from tests.doubles.keys import TRUSTED, signed
from tests.doubles.leader import Leader
from tests.doubles.nats import RunningNats, running_nats
from tests.doubles.polling import until

ROUTES = [("GET", "/hello")]


class Rig:
    """One agent, its gateway, and the leader's side."""

    def __init__(self, folder: Path, server: RunningNats) -> None:
        self.folder = folder
        self.server = server
        self.code_root = folder / "code"
        self.host = hosting.Host()
        self.app = dispatching.Dispatcher(self.host, pages.Pages(self.host, ready=dict, info=dict, version="1"))
        self.digest = sources.store(self.code_root, {"small.py": sources.SMALL})
        identity = states.Identity("w0", "00000000", {"zone": "x"}, "http://127.0.0.1:1", datetime.now(UTC))
        self.agent = agents.Agent(
            identity, self.host, nats_url=server.url, code_root=self.code_root, last_good=folder / "lkg" / "w0.db",
            trusted=TRUSTED,
            beat_seconds=0.3, report_seconds=0.3,
        )  # fmt: skip
        self.leader: Leader

    async def connect(self) -> None:
        """(Re)connect the leader."""
        client = await nats.connect(self.server.url, allow_reconnect=False)
        before = getattr(self, "leader", None)
        self.leader = Leader(client)
        if before is not None:
            self.leader.rows, self.leader.revision = before.rows, before.revision

    async def desire(self, name: str, *, uid: str = "u1", generation: int = 1, **more: object) -> None:
        """Want the small module under ``name``."""
        module = sources.desired(self.digest, "small:Small", ROUTES, **{"namespace": name, **more})
        await self.leader.desire(name, module, uid=uid, generation=generation)

    async def status(self, name: str) -> int:
        """What the module's route answers."""
        return (await call(self.app, "GET", f"/api/v1/modules/v1/{name}/hello")).status

    async def serves(self, name: str, status: int = 200) -> None:
        """Wait until the module's route answers ``status``."""

        async def answers() -> bool:
            return await self.status(name) == status

        await until(answers, what=f"{name} answers {status}")

    async def report(self) -> WorkerReport:
        """The latest report."""
        found = await self.leader.report("w0")
        assert found is not None
        return found

    async def reports(self, **expected: object) -> WorkerReport:
        """Wait for a report with these fields."""
        last: list[WorkerReport | None] = [None]

        async def same() -> bool:
            last[0] = await self.leader.report("w0")
            return last[0] is not None and all(getattr(last[0], key) == value for key, value in expected.items())

        try:
            await until(same)
        except AssertionError:
            raise AssertionError(f"{expected} not in {last[0]}") from None
        assert last[0] is not None
        return last[0]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_nats(tmp_path) as server:
        made = Rig(tmp_path, server)
        await made.connect()
        await made.leader.make_buckets()
        made.agent.start()
        yield made
        await made.agent.leave()
        await made.host.close()
        with contextlib.suppress(Exception):
            await made.leader.client.close()


@contextlib.asynccontextmanager
async def beating(rig: Rig, *, created: str = "2030-01-01T00:00:00Z") -> AsyncIterator[None]:
    """The leader beats meanwhile."""
    ended = asyncio.Event()

    async def beat() -> None:
        while not ended.is_set():
            await rig.leader.beat(created)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.1)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        ended.set()
        await task


async def test_an_agent_is_never_loaded_until_a_set_is_proven_and_then_empty(rig: Rig) -> None:
    report = await rig.reports(state=WorkerState.NEVER_LOADED)
    assert not report.synced
    assert not rig.agent.facts.readiness(datetime.now(UTC))["ready"]
    await rig.leader.prove()
    await rig.agent.ready()
    await rig.reports(state=WorkerState.EMPTY, synced=True)
    assert rig.agent.facts.readiness(datetime.now(UTC))["ready"]


async def test_modules_come_change_and_go_and_every_report_says_how_far(rig: Rig) -> None:
    await rig.desire("a")
    await rig.serves("a")
    report = await rig.reports(applied_revision=1, pending=[], rejected=[], modules=1)
    assert (report.state, report.store, report.boot) == (WorkerState.SYNCED, "store-1", "00000000")
    assert report.set_hash == rig.leader.head().hash
    assert report.memory_bytes > 1_000_000
    before = rig.host.snapshot.modules["a"].instance
    await rig.desire("a", generation=2, config={"say": "more"})
    await rig.reports(applied_revision=2, pending=[])
    assert rig.host.snapshot.modules["a"].instance is not before
    await rig.leader.desire("a", None)
    await rig.serves("a", 404)
    await rig.reports(applied_revision=3, pending=[], modules=0)


async def test_a_name_deleted_and_created_again_is_another_module(rig: Rig) -> None:
    await rig.desire("a", generation=5)
    await rig.serves("a")
    await rig.leader.desire("a", None)
    await rig.desire("a", uid="u2", generation=1)
    await until(lambda: "a" in rig.host.snapshot.modules and rig.host.snapshot.modules["a"].uid == "u2")
    await rig.reports(applied_revision=3, pending=[], modules=1)
    assert rig.host.snapshot.modules["a"].generation == 1


async def test_a_module_that_cannot_be_loaded_is_rejected_with_its_place(rig: Rig) -> None:
    digest = sources.store(rig.code_root, {"bad.py": "import numpy_that_is_not_there\n"})
    module = sources.desired(digest, "bad:Bad", ROUTES)
    await rig.leader.desire("bad", module)
    await rig.desire("a")
    await rig.serves("a")
    report = await rig.reports(applied_revision=2, pending=[], state=WorkerState.DEGRADED)
    (rejected,) = report.rejected
    assert (rejected.module, rejected.reason, rejected.serving_since) == ("bad", "ImportFailed", None)
    assert "bad.py:1" in rejected.message
    assert await rig.status("bad") == 503


async def test_code_that_is_not_here_yet_is_pending_and_tried_again(rig: Rig) -> None:
    module = sources.desired("sha256:" + "0" * 64, "small:Small", ROUTES)
    await rig.leader.desire("small", module)
    report = await rig.reports(applied_revision=1, state=WorkerState.DEGRADED)
    assert report.pending[0].reason == "CodeMissing"
    assert report.pending[0].next_retry is not None
    sources.write(rig.code_root / ("0" * 64), {"small.py": sources.SMALL})
    await rig.serves("small")
    await rig.reports(pending=[], state=WorkerState.SYNCED)


async def test_a_document_that_was_altered_is_reported_and_the_last_good_serves(rig: Rig) -> None:
    await rig.desire("a")
    await rig.serves("a")
    row = rig.leader.document("a", "u1", 2, sources.desired(rig.digest, "small:Small", ROUTES, namespace="a"))
    altered = row.model_copy(update={"payload": row.payload.replace("small", "large")})
    await rig.leader.put(names.module_key("a"), altered.model_dump_json(by_alias=True).encode())
    await rig.leader.prove()
    report = await rig.reports(applied_revision=2)
    assert [each.reason for each in report.rejected] == ["DigestMismatch"]
    assert await rig.status("a") == 200


async def test_placement_is_honoured(rig: Rig) -> None:
    await rig.desire("near", worker_selector={"zone": "x"})
    await rig.desire("far", worker_selector={"zone": "y"})
    await rig.serves("near")
    await rig.reports(applied_revision=2, modules=1)
    assert await rig.status("far") == 404


async def test_a_wiped_bucket_takes_no_route_and_a_rebuilt_one_is_followed(rig: Rig) -> None:
    await rig.desire("a")
    await rig.serves("a")
    async with beating(rig):
        await rig.leader.wipe()
        await rig.reports(sequence=(await rig.report()).sequence + 3)
        assert await rig.status("a") == 200
    async with beating(rig, created="2031-01-01T00:00:00Z"):
        await rig.leader.rebuild()
        await rig.desire("b")
        await rig.serves("b")
        await rig.reports(state=WorkerState.SYNCED, applied_revision=2)
    assert await rig.status("a") == 200


async def test_a_deletion_that_was_missed_is_noticed_by_the_beat(rig: Rig) -> None:
    """The watch lost a message without a word: the beat's hash gives it away, and a verified snapshot decides."""
    await rig.desire("a")
    await rig.desire("b")
    await rig.serves("b")
    await rig.leader.forget("b")
    rig.leader.revision += 1
    assert await rig.status("b") == 200
    async with beating(rig):
        await rig.leader.prove()
        await rig.serves("b", 404)
        await rig.reports(state=WorkerState.SYNCED, modules=1)


async def test_an_older_bucket_and_another_stores_bucket_are_not_followed(rig: Rig) -> None:
    await rig.desire("a")
    await rig.desire("b")
    await rig.serves("b")
    await rig.reports(applied_revision=2)
    older = rig.leader
    async with beating(rig):
        await older.forget("b")
        older.revision = 1
        await older.prove()
        await rig.reports(state=WorkerState.OUT_OF_SYNC)
    assert [await rig.status(name) for name in "ab"] == [200, 200]
    older.store, older.revision, older.epoch = "store-2", 9, 9
    async with beating(rig):
        await older.prove()
        report = await rig.reports(state=WorkerState.OUT_OF_SYNC)
    assert report.store == "store-1"
    assert [await rig.status(name) for name in "ab"] == [200, 200]
    older.store = "store-1"
    async with beating(rig):
        await older.prove()
        await rig.reports(state=WorkerState.SYNCED, applied_epoch=9)
        await rig.serves("b", 404)


@pytest.mark.parametrize("how", ["restart", "freeze"])
async def test_nats_away_takes_no_route_and_what_changed_meanwhile_arrives(rig: Rig, how: str) -> None:
    await rig.desire("a")
    await rig.serves("a")
    if how == "restart":
        await rig.leader.client.close()
        await rig.server.kill()
        assert await rig.status("a") == 200
        await rig.server.start()
        await rig.connect()
        await rig.leader.make_buckets()
    else:
        rig.server.stop()
        await until(lambda: not rig.agent.facts.connected or rig.agent.facts.beat_age is None)
        assert await rig.status("a") == 200
        rig.server.cont()
        await rig.leader.client.close()
        await rig.connect()
    await rig.desire("b")
    await rig.serves("b")
    await rig.reports(applied_revision=2, state=WorkerState.SYNCED)


async def test_a_leader_that_falls_silent_changes_nothing(rig: Rig) -> None:
    await rig.desire("a")
    await rig.serves("a")
    async with beating(rig):
        await rig.reports(state=WorkerState.SYNCED)
    await until(lambda: (rig.agent.facts.beat_age or 0.0) == 0.0, timeout=30)  # connection dropped, read anew
    await rig.reports(state=WorkerState.SYNCED)
    assert await rig.status("a") == 200


async def test_a_bucket_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    async with running_nats(tmp_path) as server:
        rig = Rig(tmp_path, server)
        rig.agent.start()
        await rig.connect()
        await until(lambda: rig.agent.facts.connected or rig.agent.facts.report is not None)
        await rig.leader.make_buckets()
        await rig.desire("a")
        await rig.agent.ready()
        await rig.serves("a")
        await rig.agent.leave()
        assert (await rig.report()).leaving
        await rig.host.close()
        await rig.leader.client.close()


class Boots:
    """One worker slot through several boots, with NATS there or not."""

    def __init__(self, folder: Path, server: RunningNats) -> None:
        self.folder = folder
        self.server = server

    @contextlib.asynccontextmanager
    async def boot(self, *, code: bool = True) -> AsyncIterator[Rig]:
        rig = Rig(self.folder, self.server)
        if not code:
            shutil.rmtree(rig.code_root)
        rig.agent.start()
        try:
            yield rig
        finally:
            await rig.agent.leave()
            await rig.host.close()


@pytest.fixture
async def boots(tmp_path: Path) -> AsyncIterator[Boots]:
    """A slot that served module a at revision 1, and b: its second generation refused, the first one serving."""
    async with running_nats(tmp_path) as server:
        made = Boots(tmp_path, server)
        async with made.boot() as rig:
            await rig.connect()
            await rig.leader.make_buckets()
            await rig.desire("a")
            await rig.desire("b", config={"which": "good"})
            await rig.serves("b")
            await rig.reports(applied_revision=2, pending=[])
            bad = sources.store(rig.code_root, {"small.py": "import numpy_that_is_not_there\n"})
            await rig.leader.desire(
                "b", sources.desired(bad, "small:Small", ROUTES, namespace="b"), uid="u1", generation=2
            )
            report = await rig.reports(applied_revision=3, pending=[], state=WorkerState.DEGRADED)
            assert report.rejected[0].serving_since is not None
            await rig.leader.client.close()
        yield made


async def test_a_worker_starts_from_its_disk_with_nothing_else_alive(boots: Boots) -> None:
    await boots.server.kill()
    async with boots.boot() as rig:
        await rig.agent.ready()
        assert [await rig.status(name) for name in "ab"] == [200, 200]
        answer = await call(rig.app, "GET", "/api/v1/modules/v1/b/hello")
        assert answer.json["config"] == {"which": "good"}
        facts = rig.agent.facts
        assert (facts.state, facts.synced, facts.connected) == (WorkerState.OUT_OF_SYNC, False, False)
        assert "from disk, not confirmed in this boot yet; NATS at " in facts.reason
        kept = facts.readiness(datetime.now(UTC))["lastGood"]
        assert (kept["state"], kept["restored"], kept["revision"]) == ("saved", True, 3)
        assert kept["ageSeconds"] > 0
        await boots.server.start()
        await rig.connect()
        await rig.leader.make_buckets()
        report = await rig.reports(state=WorkerState.DEGRADED, synced=True, applied_revision=3)
        assert [(entry.module, entry.generation) for entry in report.rejected] == [("b", 2)]
        assert report.rejected[0].serving_since is not None
        await rig.leader.client.close()


async def test_what_changed_while_a_worker_was_away_is_there_before_its_door_opens(boots: Boots) -> None:
    client = await nats.connect(boots.server.url)
    leader = Leader(client)
    leader.revision = 3
    digest = sources.store(boots.folder / "code", {"small.py": sources.SMALL})
    for name in ("a", "b", "c"):
        await leader.desire(name, sources.desired(digest, "small:Small", ROUTES, namespace=name), uid="u2")
    await leader.desire("a", None)
    async with boots.boot() as rig:
        await rig.agent.ready()
        assert [await rig.status(name) for name in "abc"] == [404, 200, 200]
    await client.close()


@pytest.mark.parametrize("damage", ["truncated", "noise", "format"])
async def test_a_damaged_last_good_state_is_never_served_and_nats_is_waited_for(boots: Boots, damage: str) -> None:
    path = boots.folder / "lkg" / "w0.db"
    if damage == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "noise":
        path.write_bytes(path.read_bytes().replace(b"small:Small", b"small:Smell"))
    else:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 99")
    await boots.server.kill()
    async with boots.boot() as rig:
        await until(lambda: rig.agent.facts.last_good.state is LastGoodState.REFUSED)
        facts = rig.agent.facts
        assert facts.state is WorkerState.NEVER_LOADED
        await until(lambda: "set aside as w0.db.refused" in rig.agent.facts.reason)
        assert not rig.agent.facts.readiness(datetime.now(UTC))["ready"]
        assert await rig.status("a") == 404
        await boots.server.start()
        await rig.agent.ready()
        assert await rig.status("a") == 200
        await until(lambda: rig.agent.facts.last_good.state is LastGoodState.SAVED)
    assert path.exists()
    assert path.with_name("w0.db.refused").exists()


async def test_another_stores_bucket_is_refused_after_a_restart_and_the_message_says_what_to_do(boots: Boots) -> None:
    client = await nats.connect(boots.server.url)
    leader = Leader(client, "store-2")
    await leader.wipe()
    await leader.make_buckets()
    leader.epoch = 9
    await leader.desire("a", None)
    async with boots.boot() as rig:
        rig.leader = leader
        await rig.agent.ready()
        await until(lambda: "another store" in rig.agent.facts.reason)
        report = await rig.reports(state=WorkerState.OUT_OF_SYNC, message=rig.agent.facts.reason)
        assert str(rig.folder / "lkg" / "w0.db") in report.message
        assert (report.store, report.applied_revision) == ("store-1", 3)
        assert not report.synced
        assert [await rig.status(name) for name in "ab"] == [200, 200]
    await client.close()


async def test_nothing_is_acknowledged_that_is_not_on_disk(rig: Rig) -> None:
    await rig.desire("a")
    await rig.reports(applied_revision=1, state=WorkerState.SYNCED)
    kept = rig.folder / "lkg"
    shutil.move(kept, rig.folder / "moved")
    kept.write_text("in the way")
    await rig.desire("b")
    await rig.serves("b")

    async def said() -> WorkerReport | None:
        report = await rig.leader.report("w0")
        reasons = [] if report is None else [(entry.module, entry.reason) for entry in report.pending]
        return report if reasons == [("b", "NotSaved")] else None

    report = await until(said)
    assert report is not None
    assert (report.state, report.applied_revision, report.observed_revision) == (WorkerState.DEGRADED, 1, 2)
    assert report.last_good.state is LastGoodState.FAILING
    assert str(kept / "w0.db") in report.message
    assert report.message == report.pending[0].message
    kept.unlink()
    report = await rig.reports(applied_revision=2, pending=[], state=WorkerState.SYNCED)
    assert (report.last_good.state, report.last_good.revision) == (LastGoodState.SAVED, 2)


def on(rig: Rig, flag: str) -> bool:
    """What decisions find a flag to be."""
    return rig.host.snapshot.standing.flags.evaluate(flag, None, 0.0).on


async def test_flags_are_in_place_with_the_report_that_acknowledges_them_and_go_by_tombstone(rig: Rig) -> None:
    key = names.flag_key("beta")
    await rig.leader.tell("FeatureFlag", key, FlagDefinition(default_variant="on"))
    await rig.reports(applied_revision=1, state=WorkerState.SYNCED)
    assert on(rig, "beta")
    await rig.leader.tell("FeatureFlag", key, FlagDefinition(default_variant="on", kill_switch=True))
    await rig.reports(applied_revision=2)
    assert not on(rig, "beta")
    bad = signed(rig.leader.rows[key].model_copy(update={"revision": 3, "payload": "{}"}))
    rig.leader.rows[key], rig.leader.revision = bad, 3
    await rig.leader.put(key, bad.model_dump_json(by_alias=True).encode())
    await rig.leader.prove()
    report = await rig.reports(state=WorkerState.DEGRADED, applied_revision=3)
    assert report.message.startswith("what was there before flag.beta still counts, since it is refused: flag.beta: ")
    await rig.leader.tell("FeatureFlag", key, None)
    await rig.reports(applied_revision=4, state=WorkerState.EMPTY)
    assert rig.host.snapshot.standing.flags.evaluate("beta", None, 0.0).reason == "FlagUnknown"


async def test_what_decisions_read_is_acknowledged_only_when_the_serving_loop_has_taken_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.desire("a")
    await rig.reports(applied_revision=1)
    stand, held, free = rig.host.stand, asyncio.Event(), asyncio.Event()

    async def later(standing: Standing) -> None:
        held.set()
        await free.wait()
        stand(standing)

    assert rig.agent._life is not None
    crossing = rig.agent._life._gateway
    monkeypatch.setattr(rig.agent._life._standings, "_stand", lambda standing: crossing._over(later(standing)))
    await rig.leader.tell("FeatureFlag", names.flag_key("beta"), FlagDefinition(default_variant="on"))
    await held.wait()
    report = await rig.reports(observed_revision=2)
    assert report.applied_revision == 1
    assert not on(rig, "beta")
    free.set()
    await rig.reports(applied_revision=2)
    assert on(rig, "beta")


async def test_a_worker_decides_by_its_disk_with_nothing_else_alive(boots: Boots) -> None:
    async with boots.boot() as rig:
        await rig.connect()
        rig.leader.rows, rig.leader.revision = await rig.leader.standing_rows(), 3
        await rig.leader.tell("FeatureFlag", names.flag_key("beta"), FlagDefinition(default_variant="on"))
        await rig.reports(applied_revision=4)
        await rig.leader.client.close()
    await boots.server.kill()
    async with boots.boot() as rig:
        await rig.agent.ready()
        assert on(rig, "beta")


async def test_code_that_is_gone_with_everything_else_is_said_by_its_routes(boots: Boots) -> None:
    await boots.server.kill()
    async with boots.boot(code=False) as rig:
        await rig.agent.ready()
        assert [await rig.status(name) for name in "ab"] == [503, 503]
