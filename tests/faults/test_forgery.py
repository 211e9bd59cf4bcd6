"""Who may write to NATS still cannot make a worker serve, change or drop anything: desired state is signed."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from schemas import documents, names
from schemas.documents import DesiredDocument, Head
from tests.doubles.keys import STRANGER, signed
from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running, wait_for
from tests.doubles.traffic import flowing

pytestmark = [pytest.mark.processes, pytest.mark.slow]

HELLO = "v1/victim/hello"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder: Path = tmp_path_factory.mktemp("forgery")
    with running(folder, examples=False, workers=2, environment=BY_HAND) as started:
        (started.modules / "victim.py").write_text(module_source("victim"))
        started.cli("apply", "--wait", "-f", "-", stdin=manifest("victim"))
        yield started


async def entry(client: Client, key: str) -> dict[str, Any]:
    subject = f"$KV.{names.BUCKET_DESIRED}.{key}"
    message = await client.jetstream().get_last_msg(f"KV_{names.BUCKET_DESIRED}", subject)
    found: dict[str, Any] = json.loads(message.data or b"null")
    return found


async def attack(platform: Platform, forge: Any) -> None:
    """Write a forged document and a head that proves it, as whoever holds the control plane's NATS key could."""
    async with platform.nats("controlplane") as client:
        genuine = DesiredDocument.model_validate(await entry(client, names.module_key("victim")))
        head = Head.model_validate(await entry(client, names.KEY_HEAD))
        forged = signed(forge(genuine, head), STRANGER)
        members = [] if forged.deleted else [(names.module_key(forged.name), forged.revision, forged.digest)]
        if forged.name != "victim":
            members.append((names.module_key("victim"), genuine.revision, genuine.digest))
        proof = head.model_copy(
            update={"revision": forged.revision, "count": len(members), "hash": documents.set_hash(members)}
        )
        for key, said in ((names.module_key(forged.name), forged), (names.KEY_HEAD, signed(proof, STRANGER))):
            await client.jetstream().publish(
                f"$KV.{names.BUCKET_DESIRED}.{key}", said.model_dump_json(by_alias=True).encode()
            )


def planted(genuine: DesiredDocument, head: Head) -> DesiredDocument:
    """A module that nobody applied, of code that is there."""
    payload = json.loads(genuine.payload) | {"namespace": "planted"}
    text = documents.canonical_json(payload)
    return genuine.model_copy(
        update={
            "name": "planted", "uid": "u-planted", "revision": head.revision + 5, "payload": text,
            "digest": documents.payload_digest(text),
        }
    )  # fmt: skip


def opened(genuine: DesiredDocument, head: Head) -> DesiredDocument:
    """The victim under another namespace."""
    payload = json.loads(genuine.payload) | {"namespace": "elsewhere"}
    text = documents.canonical_json(payload)
    return genuine.model_copy(
        update={"revision": head.revision + 5, "payload": text, "digest": documents.payload_digest(text)}
    )


def buried(genuine: DesiredDocument, head: Head) -> DesiredDocument:
    """A tombstone for the victim."""
    return genuine.model_copy(
        update={"revision": head.revision + 5, "deleted": True, "payload": "", "digest": documents.payload_digest("")}
    )


@pytest.mark.parametrize("forge", [planted, opened, buried])
def test_a_forged_document_changes_no_route_and_is_set_right(platform: Platform, forge: Any) -> None:
    async def set_right() -> bool:
        async with platform.nats("controlplane") as client:
            try:
                stray = await entry(client, names.module_key("planted"))
            except Exception:  # noqa: BLE001 - it is gone
                stray = {}
            victim = await entry(client, names.module_key("victim"))
            head = await entry(client, names.KEY_HEAD)
            return not stray and victim["kid"] == head["kid"] != STRANGER.kid

    with flowing(f"{platform.door}/api/v1/modules/{HELLO}") as traffic:
        asyncio.run(attack(platform, forge))
        wait_for(lambda: asyncio.run(set_right()), timeout=60, what=platform.output)
        for worker in platform.endpoints["workers"]:
            for path in ("v1/planted/hello", "v1/elsewhere/hello"):
                assert platform.http.get(f"{worker}/api/v1/modules/{path}").status_code == 404
    assert traffic.only(200), (traffic.answers, traffic.failures)
    assert platform.state("victim") == "ACTIVE"
