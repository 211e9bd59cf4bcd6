"""What a user sees when a process dies: routes answer, the world converges, no event is lost or doubled."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nats.errors
import pytest

from tests.doubles.events import sequences, stored_events
from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running, wait_for
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with running(tmp_path, examples=False, environment=BY_HAND) as started:
        yield started


def add(platform: Platform, name: str, **more: Any) -> None:
    (platform.modules / f"{name}.py").write_text(module_source(name, **more))


def events_of(platform: Platform, name: str) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with platform.nats() as client:
            return await stored_events(client, f"modplane.events.module.{name}.>")

    return asyncio.run(read())


def answers(platform: Platform, path: str) -> bool:
    return platform.call(path).status_code == 200


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
    with flowing(f"{platform.door}/api/v1/modules/v1/before/hello") as traffic:
        for name in names:
            platform.cli("apply", "-f", "-", stdin=manifest(name))
        platform.child("controlplane", "serve").send_signal(signal.SIGKILL)
        control_plane_is_back(platform)
        for name in names:
            platform.wait_state(name.replace("_", "-"), "ACTIVE", timeout=30)
            assert answers(platform, f"v1/{name.replace('_', '-')}/hello")
    assert traffic.only(200), (traffic.answers, traffic.failures)
    for name in names:
        stored = platform.object("modules", name.replace("_", "-"))
        assert stored is not None
        uid = stored["metadata"]["uid"]
        found = wait_for(lambda n=name, u=uid: sequences(events_of(platform, n.replace("_", "-")), u)[3:] and
                         sequences(events_of(platform, n.replace("_", "-")), u))  # fmt: skip
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


@pytest.mark.parametrize("how", ["purged", "deleted"])
def test_a_wiped_bucket_is_rebuilt_and_no_route_is_lost(platform: Platform, how: str) -> None:
    for name in ("kept_a", "kept_b"):
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

    with flowing(f"{platform.door}/api/v1/modules/v1/kept-a/hello") as traffic:
        asyncio.run(wipe())
        wait_for(lambda: {"head", "module.kept-a", "module.kept-b"} <= asyncio.run(keys()), timeout=30)
        add(platform, "after_wipe")
        platform.cli("apply", "-f", "-", stdin=manifest("after_wipe"))
        platform.wait_state("after-wipe", "ACTIVE", timeout=30)
        assert answers(platform, "v1/after-wipe/hello")
        assert answers(platform, "v1/kept-b/hello")
    assert traffic.only(200), (traffic.answers, traffic.failures)


def test_routes_answer_with_the_control_plane_and_nats_dead(platform: Platform) -> None:
    add(platform, "alone")
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("alone"))
    with flowing(f"{platform.door}/api/v1/modules/v1/alone/hello") as traffic:
        for words in (("controlplane", "serve"), ("nats-server",)):
            platform.child(*words).send_signal(signal.SIGSTOP)
        wait_for(lambda: traffic.calls > 500, timeout=30)
    for child in platform.children():
        child.send_signal(signal.SIGCONT)
    assert traffic.only(200), (traffic.answers, traffic.failures)
