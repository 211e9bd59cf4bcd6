"""What a user sees when a process dies: routes answer, the world converges, no event is lost or doubled."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import nats.errors
import pytest

from tests.doubles.events import sequences, stored_events
from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running, wait_for
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One for all of them, for each has to leave it whole; each has modules of its own."""
    with running(tmp_path_factory.mktemp("crashes"), examples=False, environment=BY_HAND) as started:
        yield started


def add(platform: Platform, name: str, **more: Any) -> None:
    (platform.modules / f"{name}.py").write_text(module_source(name, **more))


def shown(name: str) -> str:
    """What its object is called."""
    return name.replace("_", "-")


def events_of(platform: Platform, name: str) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with platform.nats() as client:
            return await stored_events(client, f"modplane.events.module.{name}.>")

    return asyncio.run(read())


def answers(platform: Platform, path: str) -> bool:
    try:
        return platform.call(path).status_code == 200
    except httpx.HTTPError:  # on a connection to a worker that was killed
        return False


def control_plane_is_back(platform: Platform) -> None:
    def alive() -> bool:
        try:
            return platform.admin.get(f"{platform.control}/ready").status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(alive, timeout=30, what=platform.output)


def test_kill_9_of_the_control_plane_loses_no_module_and_no_event(platform: Platform) -> None:
    add(platform, "before")
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("before"))
    names = [f"crash_{index}" for index in range(6)]
    for name in names:
        add(platform, name)
    child = platform.child("controlplane", "serve")
    with flowing(f"{platform.door}/api/v1/modules/v1/before/hello") as traffic:
        platform.cli("apply", "-f", "-", stdin="\n---\n".join(manifest(name) for name in names))
        child.send_signal(signal.SIGKILL)
        control_plane_is_back(platform)
        for name in names:
            platform.wait_state(shown(name), "ACTIVE", timeout=30)
            assert answers(platform, f"v1/{shown(name)}/hello")
    assert traffic.only(200), (traffic.answers, traffic.failures)
    for name in names:
        stored = platform.object("modules", shown(name))
        assert stored is not None
        uid = stored["metadata"]["uid"]
        found = wait_for(lambda n=name, u=uid: sequences(events_of(platform, shown(n)), u)[3:] and
                         sequences(events_of(platform, shown(n)), u))  # fmt: skip
        assert found == list(range(1, len(found) + 1))


def test_a_killed_worker_comes_back_with_every_route(platform: Platform) -> None:
    for name in ("one", "two"):
        add(platform, name)
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest(name))
    platform.child("dataplane", "worker").send_signal(signal.SIGKILL)
    wait_for(lambda: answers(platform, "v1/one/hello") and answers(platform, "v1/two/hello"), timeout=30)
    assert platform.state("one") == "ACTIVE"
    add(platform, "three")
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("three"))
    assert answers(platform, "v1/three/hello")


def test_nats_killed_and_back_serves_on_and_takes_changes(platform: Platform) -> None:
    add(platform, "steady")
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("steady"))
    with flowing(f"{platform.door}/api/v1/modules/v1/steady/hello") as traffic:
        platform.child("nats-server").send_signal(signal.SIGKILL)
        add(platform, "meanwhile")
        platform.cli("apply", "-f", "-", stdin=manifest("meanwhile"))
        platform.wait_state("meanwhile", "ACTIVE", timeout=30)
        assert answers(platform, "v1/meanwhile/hello")
    assert traffic.only(200), (traffic.answers, traffic.failures)
    stored = platform.object("modules", "meanwhile")
    assert stored is not None
    uid = stored["metadata"]["uid"]
    wait_for(lambda: sequences(events_of(platform, "meanwhile"), uid) == [1, 2, 3, 4], timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["purged", "deleted"])
def test_a_wiped_bucket_is_rebuilt_and_no_route_is_lost(platform: Platform, how: str) -> None:
    kept_a, kept_b, after = (f"{each}_{how}" for each in ("kept_a", "kept_b", "after"))
    for name in (kept_a, kept_b):
        add(platform, name)
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest(name))

    async def wipe() -> None:
        async with platform.nats("controlplane") as client:
            stream = client.jetstream()
            if how == "purged":
                await stream.purge_stream("KV_MODPLANE_DESIRED")
            else:
                await stream.delete_stream("KV_MODPLANE_DESIRED")

    async def keys() -> set[str]:
        async with platform.nats("controlplane") as client:
            try:
                return set(await (await client.jetstream().key_value("MODPLANE_DESIRED")).keys())
            except nats.errors.Error:
                return set()

    with flowing(f"{platform.door}/api/v1/modules/v1/{shown(kept_a)}/hello") as traffic:
        asyncio.run(wipe())
        wait_for(
            lambda: {"head", f"module.{shown(kept_a)}", f"module.{shown(kept_b)}"} <= asyncio.run(keys()), timeout=30
        )
        add(platform, after)
        platform.cli("apply", "-f", "-", stdin=manifest(after))
        platform.wait_state(shown(after), "ACTIVE", timeout=30)
        assert answers(platform, f"v1/{shown(after)}/hello")
        assert answers(platform, f"v1/{shown(kept_b)}/hello")
    assert traffic.only(200), (traffic.answers, traffic.failures)


@pytest.mark.slow
def test_routes_answer_with_the_control_plane_and_nats_dead(platform: Platform) -> None:
    add(platform, "alone")
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("alone"))
    with flowing(f"{platform.door}/api/v1/modules/v1/alone/hello") as traffic:
        for words in (("controlplane", "serve"), ("nats-server",)):
            platform.child(*words).send_signal(signal.SIGSTOP)
        wait_for(lambda: traffic.calls > 200, timeout=30)
    for child in platform.children():
        child.send_signal(signal.SIGCONT)
    assert traffic.only(200), (traffic.answers, traffic.failures)
