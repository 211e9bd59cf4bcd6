"""One slow or broken module holds up no other; what failed is told with its reason and its next try."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fastapi import APIRouter

from dataplane.agent import applying, holding, loading, striking
from dataplane.errors import LoadFailed, StartFailed
from dataplane.gateway import hosting, serving
from schemas import documents
from schemas.kits.backoffs import Backoff
from schemas.meta import Json
from schemas.module import DesiredModule, Limits
from tests.doubles.clock import FakeClock
from tests.doubles.modules import FakeInstance
from tests.doubles.polling import until


class Gateway:
    """The host itself, on this loop."""

    def __init__(self, clock: FakeClock) -> None:
        self.host = hosting.Host(clock)

    async def install(self, served: serving.Served) -> None:
        await self.host.install(served)

    async def renew(self, module: holding.Wanted) -> datetime | None:
        return self.host.renew(module.name, module.uid, module.generation, module.desired)

    async def block(self, served: serving.Served, *, instead: bool = False) -> None:
        before = self.host.snapshot.modules.get(served.name)
        assert instead or before is None or before.uid != served.uid or before.trouble is not None
        self.host.block(served)

    async def remove(self, name: str, uid: str) -> None:
        await self.host.remove(name, uid)


class Rig:
    """An applier over a real host, with builds that the test decides on."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.strikes = striking.Strikes(folder / "w0.blocks.json", worker="w0", host_version="host/1", clock=self.clock)
        self.gateway = Gateway(self.clock)
        self.builds: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.prepare: Callable[[FakeInstance], None] = lambda instance: None
        self.applier = applying.Applier(
            self.gateway,
            loading.Loader(self._build, self.clock),
            self.clock,
            host_version="host/1",
            labels={"zone": "x"},
            changed=lambda: None,
            backoff=Backoff(base=4.0, cap=60.0, source=Random(1)),
            strikes=self.strikes,
        )

    def _build(self, module: holding.Wanted) -> serving.Loaded:
        self.builds.append(f"{module.name} {module.desired.version}")
        if (error := self.broken.get(module.desired.version)) is not None:
            raise error
        instance = FakeInstance(register, name=module.name, uid=module.uid, generation=module.generation)
        self.prepare(instance)
        return instance

    @property
    def serving(self) -> dict[str, tuple[str, int]]:
        modules = self.gateway.host.snapshot.modules.items()
        return {name: (served.uid, served.generation) for name, served in modules if served.trouble is None}

    async def quiet(self) -> None:
        """Wait until nothing is under way."""
        await until(lambda: not self.applier._busy)


def register(router: APIRouter) -> None:
    router.add_api_route("/hello", lambda: "hello", methods=["GET"])


def wanted(
    name: str,
    version: str = "1",
    *,
    uid: str = "u1",
    generation: int = 1,
    selector: dict[str, str] | None = None,
    limits: Limits | None = None,
    config: Json | None = None,
) -> holding.Wanted:
    desired = DesiredModule(
        entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace=name, version=version,
        config={"version": version, **(config or {})}, worker_selector=selector or {}, limits=limits or Limits(),
        routes=FakeInstance(register).desired.routes,
    )  # fmt: skip
    digest = documents.payload_digest(documents.canonical_json(desired.wire()))
    return holding.Wanted(name, uid, generation, (1, generation), digest, desired)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.applier.stop()


async def test_wanted_modules_serve_and_unwanted_go(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a"), "b": wanted("b"), "far": wanted("far", selector={"zone": "y"})})
    assert not rig.applier.settled
    await rig.quiet()
    assert rig.applier.settled
    assert set(rig.serving) == {"a", "b"}
    rig.applier.want({"a": None})
    await until(lambda: set(rig.serving) == {"b"})
    await until(lambda: not rig.applier.pending())
    assert rig.applier.serving == 1


async def test_an_unchanged_payload_keeps_its_instance(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    rig.applier.want({"a": wanted("a", generation=2)})
    await rig.quiet()
    assert rig.builds == ["a 1"]
    assert rig.serving == {"a": ("u1", 2)}


async def test_other_limits_go_around_the_instance_that_serves(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    before = rig.gateway.host.snapshot.modules["a"]
    rig.applier.want({"a": wanted("a", generation=2, limits=Limits(timeout_seconds=7))})
    await rig.quiet()
    after = rig.gateway.host.snapshot.modules["a"]
    assert after.app is before.app
    assert (after.generation, after.desired.limits.timeout_seconds) == (2, 7)
    assert rig.applier.good("a") == wanted("a", generation=2, limits=Limits(timeout_seconds=7))
    assert rig.builds == ["a 1"]
    assert not rig.gateway.host.retiring


@pytest.mark.parametrize("change", [{"version": "2"}, {"limits": Limits(max_threads=3)}, {"uid": "u2"}])
async def test_what_an_instance_was_built_from_makes_another_instance(rig: Rig, change: dict[str, Any]) -> None:
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    rig.applier.want({"a": wanted("a", generation=2, **change)})
    await rig.quiet()
    assert len(rig.builds) == 2


async def test_a_new_uid_replaces_the_old_module(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a", generation=7)})
    await rig.quiet()
    rig.applier.want({"a": wanted("a", uid="u2", generation=1)})
    await rig.quiet()
    assert rig.serving == {"a": ("u2", 1)}


async def test_a_rejected_generation_keeps_the_last_good_one_and_is_not_tried_again(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    rig.broken["2"] = LoadFailed("ImportFailed", "a.py:3: no module named numpy")
    rig.applier.want({"a": wanted("a", "2", generation=2)})
    await rig.quiet()
    (rejected,) = rig.applier.rejected()
    assert (rejected.module, rejected.generation, rejected.reason) == ("a", 2, "ImportFailed")
    assert rejected.serving_since is not None
    assert rig.serving == {"a": ("u1", 1)}
    assert rig.applier.troubled
    await rig.clock.advance(3600)
    assert rig.builds == ["a 1", "a 2"]
    rig.applier.want({"b": wanted("b", "2", generation=3)})
    await rig.quiet()
    assert len(rig.builds) == 2, "the same code and configuration are in quarantine"
    assert [each.module for each in rig.applier.rejected()] == ["a", "b"]
    rig.applier.want({"a": wanted("a", "3", generation=4)})
    await rig.quiet()
    assert rig.serving["a"] == ("u1", 4)
    assert [each.module for each in rig.applier.rejected()] == ["b"]


async def test_a_failure_in_which_a_secret_took_part_says_nothing_of_the_next_generation(rig: Rig) -> None:
    confided: Json = {"key": ["secret://api-key"]}
    rig.broken["2"] = LoadFailed("CreateFailed", "a.py:3: the key is malformed")
    rig.applier.want({"a": wanted("a", "2", config=confided)})
    await rig.quiet()
    rig.applier.want({"b": wanted("b", "2", config=confided)})
    await rig.quiet()
    assert rig.builds == ["a 2", "b 2"]
    del rig.broken["2"]
    rig.applier.want({"a": None})
    await rig.quiet()
    rig.applier.want({"a": wanted("a", "2", uid="u2", config=confided)})
    await rig.quiet()
    assert rig.serving == {"a": ("u2", 1)}


async def test_going_back_to_what_serves_needs_no_build(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    rig.broken["2"] = LoadFailed("ImportFailed", "no")
    rig.applier.want({"a": wanted("a", "2", generation=2)})
    await rig.quiet()
    rig.applier.want({"a": wanted("a", generation=3)})
    await rig.quiet()
    assert rig.applier.rejected() == []
    assert rig.builds == ["a 1", "a 2"]


async def test_without_a_last_good_generation_the_known_routes_are_blocked(rig: Rig) -> None:
    rig.broken["1"] = LoadFailed("ImportFailed", "no")
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    blocked = rig.gateway.host.snapshot.modules["a"]
    assert blocked.trouble is not None
    assert blocked.trouble.reason == "ImportFailed"
    assert rig.applier.rejected()[0].serving_since is None
    rig.applier.want({"a": None})
    await until(lambda: not rig.gateway.host.snapshot.modules)


async def test_a_broken_newcomer_of_a_name_does_not_leave_the_old_one_serving(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    rig.broken["2"] = LoadFailed("ImportFailed", "no")
    rig.applier.want({"a": wanted("a", "2", uid="u2")})
    await rig.quiet()
    assert rig.serving == {}
    assert rig.gateway.host.snapshot.modules["a"].uid == "u2"


async def test_a_start_that_fails_is_pending_and_tried_again_with_back_off(rig: Rig) -> None:
    rig.prepare = lambda instance: setattr(instance, "failing", "no database yet")
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    (pending,) = rig.applier.pending()
    assert (pending.reason, pending.message) == ("StartFailed", "no database yet")
    assert pending.next_retry is not None
    assert rig.applier.settled
    rig.prepare = lambda instance: None
    await rig.clock.advance(4.0)
    await until(lambda: rig.serving)
    assert rig.applier.pending() == []
    assert rig.gateway.host.snapshot.modules["a"].trouble is None


async def test_a_hanging_start_holds_up_no_other(rig: Rig) -> None:
    gate = asyncio.Event()

    def hang(instance: FakeInstance) -> None:
        if instance.name == "slow":
            instance.gate = gate

    rig.prepare = hang
    rig.applier.want({"slow": wanted("slow"), "a": wanted("a"), "b": wanted("b")})
    await until(lambda: set(rig.serving) == {"a", "b"})
    assert [each.module for each in rig.applier.pending()] == ["slow"]
    assert not rig.applier.settled
    await rig.clock.advance(2.0)
    assert rig.applier.troubled
    gate.set()
    await rig.quiet()
    assert set(rig.serving) == {"a", "b", "slow"}


async def test_what_changes_while_it_loads_ends_with_the_newest(rig: Rig) -> None:
    gate = asyncio.Event()
    rig.prepare = lambda instance: setattr(instance, "gate", gate)
    rig.applier.want({"a": wanted("a")})
    await until(lambda: rig.builds)
    rig.applier.want({"a": wanted("a", "2", generation=2)})
    rig.applier.want({"a": wanted("a", "3", generation=3)})
    gate.set()
    await until(lambda: rig.serving == {"a": ("u1", 3)})
    assert rig.builds == ["a 1", "a 3"]


async def test_what_is_no_longer_wanted_when_it_is_built_is_thrown_away(rig: Rig) -> None:
    made: list[FakeInstance] = []
    rig.prepare = made.append
    rig.applier.want({"a": wanted("a")})
    rig.applier.want({"a": None})
    await rig.quiet()
    assert rig.serving == {}
    assert [instance.unloads for instance in made] == [1]


async def test_what_nobody_foresaw_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def trip(served: serving.Served) -> None:
        raise OSError("out of file descriptors")

    monkeypatch.setattr(rig.gateway, "install", trip)
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    assert rig.applier.pending()[0].reason == "Unexpected"


async def test_what_served_before_this_boot_comes_first_and_what_it_was_chosen_over_after_it(rig: Rig) -> None:
    rig.applier.restore({"a": wanted("a"), "far": wanted("far", selector={"zone": "y"})})
    assert rig.applier.good("a") is not None
    assert rig.applier.good("far") is None
    rig.broken["2"] = LoadFailed("ImportFailed", "a.py:3: no module named numpy")
    rig.applier.want({"a": wanted("a", "2", generation=2)})
    await rig.quiet()
    assert rig.builds == ["a 1", "a 2"]
    assert rig.serving == {"a": ("u1", 1)}
    (rejected,) = rig.applier.rejected()
    assert (rejected.generation, rejected.serving_since is not None) == (2, True)
    assert rig.applier.pending() == []
    assert rig.applier.settled
    del rig.broken["2"]
    rig.applier.want({"a": wanted("a", "3", generation=3)})
    await rig.quiet()
    good = rig.applier.good("a")
    assert good is not None
    assert good.generation == 3
    assert rig.applier.take_moved() == {"a"}
    assert rig.applier.take_moved() == set()


async def test_a_newest_that_loads_after_all_replaces_what_served_before(rig: Rig) -> None:
    rig.applier.restore({"a": wanted("a")})
    rig.applier.want({"a": wanted("a", "2", generation=2)})
    await rig.quiet()
    assert rig.serving == {"a": ("u1", 2)}
    assert (rig.applier.pending(), rig.applier.rejected()) == ([], [])


async def test_what_served_before_and_cannot_start_now_is_tried_again_with_what_it_was_chosen_over(rig: Rig) -> None:
    rig.broken = {"1": StartFailed("StartFailed", "no database"), "2": LoadFailed("ImportFailed", "a.py:3: numpy")}
    rig.applier.restore({"a": wanted("a")})
    rig.applier.want({"a": wanted("a", "2", generation=2)})
    await rig.quiet()
    assert rig.serving == {}
    assert [entry.reason for entry in rig.applier.pending()] == ["ImportFailed"]
    assert rig.applier.good("a") is not None
    del rig.broken["1"]
    await rig.clock.advance(5)
    await until(lambda: rig.serving == {"a": ("u1", 1)})
    await rig.quiet()
    assert [entry.serving_since is not None for entry in rig.applier.rejected()] == [True]


async def test_what_served_before_and_will_never_load_again_is_forgotten(rig: Rig) -> None:
    rig.broken = {"1": LoadFailed("ImportFailed", "gone"), "2": LoadFailed("ImportFailed", "a.py:3: numpy")}
    rig.applier.restore({"a": wanted("a")})
    rig.applier.want({"a": wanted("a", "2", generation=2)})
    await rig.quiet()
    assert rig.applier.good("a") is None
    assert rig.applier.take_moved() == {"a"}
    assert [entry.message for entry in rig.applier.rejected()] == ["a.py:3: numpy"]


@pytest.mark.parametrize("newest", [None, wanted("a", "2", uid="u2")])
async def test_what_served_before_does_not_outlive_its_uid(rig: Rig, newest: holding.Wanted | None) -> None:
    rig.applier.restore({"a": wanted("a")})
    rig.applier.want({"a": newest})
    await rig.quiet()
    assert "a 1" not in rig.builds
    rig.applier.restore({"b": wanted("b")})
    rig.applier.want({"b": wanted("b", "2")})
    rig.applier.want({"b": None})
    await rig.quiet()
    assert "b" not in rig.serving


async def test_modules_that_take_long_are_covered_and_serve_when_they_are_there(rig: Rig) -> None:
    gate = asyncio.Event()
    rig.prepare = lambda instance: setattr(instance, "gate", gate if instance.name == "slow" else None)
    rig.applier.want({"slow": wanted("slow"), "quick": wanted("quick")})
    await until(lambda: rig.applier.untried == 1)
    await rig.applier.cover()
    served = rig.gateway.host.snapshot.modules["slow"]
    assert served.trouble is not None
    assert (served.trouble.reason, served.trouble.retryable) == ("Loading", True)
    gate.set()
    await rig.quiet()
    assert set(rig.serving) == {"slow", "quick"}


CODE = "sha256:" + "0" * 64


async def test_a_module_that_holds_the_loop_again_and_again_serves_no_longer(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a"), "b": wanted("b", uid="u2")})
    await rig.quiet()
    for _ in range(2):
        await rig.applier.blocked("a", "u1", CODE, "a.py:7 in slow")
    assert set(rig.serving) == {"a", "b"}
    assert not rig.applier.rejected()
    await rig.applier.blocked("a", "u1", CODE, "a.py:7 in slow")
    assert set(rig.serving) == {"b"}
    (rejected,) = rig.applier.rejected()
    assert (rejected.reason, rejected.serving_since) == ("LoopBlocked", None)
    assert "a.py:7 in slow" in rejected.message
    assert "a" in rig.applier.take_moved()
    await rig.applier.blocked("a", "u1", CODE, "a.py:7 in slow")
    rig.applier.want({"a": wanted("a", generation=2)})
    await rig.quiet()
    assert set(rig.serving) == {"b"}, "the same code and configuration"
    rig.applier.want({"a": wanted("a", "2", generation=3)})
    await rig.quiet()
    assert rig.serving["a"] == ("u1", 3)
    assert not rig.applier.rejected()


async def test_blocks_of_what_serves_no_longer_do_not_count_for_what_does(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    for _ in range(5):
        await rig.applier.blocked("a", "u0", CODE, "")
        await rig.applier.blocked("a", "u1", "sha256:" + "1" * 64, "")
        await rig.applier.blocked("gone", "u1", CODE, "")
        await rig.applier.blocked("", "", "", "")
    assert set(rig.serving) == {"a"}


async def test_the_good_generation_that_holds_the_loop_goes_too_while_the_newest_is_rejected(rig: Rig) -> None:
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    rig.broken["2"] = LoadFailed("ImportFailed", "a.py:3: no module named numpy")
    rig.applier.want({"a": wanted("a", "2", generation=2)})
    await rig.quiet()
    for _ in range(3):
        await rig.applier.blocked("a", "u1", CODE, "")
    assert not rig.serving
    assert [each.reason for each in rig.applier.rejected()] == ["ImportFailed"]


async def test_a_block_that_ended_an_earlier_process_counts_when_its_code_is_placed(rig: Rig) -> None:
    for _ in range(2):
        rig.strikes.add(wanted("a"), "a.py:7 in slow")
    await rig.applier.blocked("", "", CODE, "a.py:8 in slower")
    rig.applier.want({"a": wanted("a")})
    await rig.quiet()
    assert not rig.serving
    (rejected,) = rig.applier.rejected()
    assert rejected.reason == "LoopBlocked"
    assert "a.py:8 in slower" in rejected.message
    assert not rig.builds
