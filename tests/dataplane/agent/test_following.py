"""The watch over the desired bucket: a stream of changes is no reason to begin anew, a bucket that lags behind is."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from dataplane.agent.following import Follower
from dataplane.agent.holding import Held
from schemas import documents, names
from schemas.documents import Beat, DesiredDocument, Head
from schemas.kits import buckets, hearing
from schemas.kits.hearing import Heard
from schemas.kits.natslink import NatsLink, Session
from schemas.module import DesiredModule
from tests.doubles.keys import TRUSTED, signed
from tests.doubles.virtualloop import VirtualClock, virtually

MODULE = DesiredModule(entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace="a").wire()


class Bucket:
    """What the watch sees: entries as they are put, and beats about the newest head."""

    def __init__(self) -> None:
        self.rows: dict[str, DesiredDocument] = {}
        self.abandoned: list[str] = []
        self.generation = 1
        self._entries: asyncio.Queue[buckets.Entry | None] = asyncio.Queue()
        self._heard: Heard | None = None
        self._sequence = 0

    def document(self, revision: int) -> None:
        """One more module, that no head proves yet."""
        payload = documents.canonical_json(MODULE)
        key = names.module_key(f"m{revision}")
        row: dict[str, Any] = {
            "kind": "Module", "name": f"m{revision}", "uid": "u", "generation": 1, "epoch": 1, "revision": revision,
            "digest": documents.payload_digest(payload), "payload": payload, "deleted": False,
        }  # fmt: skip
        self.rows[key] = signed(DesiredDocument.model_validate(row))
        self._put(key, self.rows[key])

    def prove(self) -> Head:
        """The head of everything so far."""
        live = [(key, row.revision, row.digest) for key, row in self.rows.items()]
        newest = max(row.revision for row in self.rows.values())
        head = signed(Head(store="s", epoch=1, revision=newest, count=len(live), hash=documents.set_hash(live)))
        self._put(names.KEY_HEAD, head)
        return head

    async def beat(self, head: Head) -> None:
        """The leader says how it stands."""
        beat = Beat(**head.model_dump(), sequence=self._sequence, created="c")
        assert self._heard is not None
        await self._heard(Msg(cast("Any", None), data=beat.model_dump_json(by_alias=True).encode()))

    def _put(self, key: str, document: DesiredDocument | Head) -> None:
        self._sequence += 1
        data = document.model_dump_json(by_alias=True).encode()
        self._entries.put_nowait(buckets.Entry(key, data, self._sequence, buckets.Operation.PUT, {}, 0.0))

    async def follow(self, session: Session, bucket: str) -> AsyncGenerator[buckets.Entry | None, None]:
        while not self._entries.empty():
            yield self._entries.get_nowait()
        yield None
        while True:
            yield await self._entries.get()

    @contextlib.asynccontextmanager
    async def subscribed(self, session: Session, subject: str, heard: Heard) -> AsyncIterator[None]:
        self._heard = heard
        yield

    def abandon(self, reason: str, generation: int) -> None:
        self.abandoned.append(reason)

    async def session(self) -> Session:
        return cast("Session", self)


@contextlib.asynccontextmanager
async def watched(bucket: Bucket, patch: pytest.MonkeyPatch) -> AsyncIterator[Follower]:
    patch.setattr(buckets, "follow", bucket.follow)
    patch.setattr(hearing, "subscribed", bucket.subscribed)
    clock = VirtualClock()
    follower = Follower(cast("NatsLink", bucket), Held(TRUSTED), clock, changed=lambda: None)
    running = asyncio.create_task(follower.run())
    await clock.sleep(0.1)
    try:
        yield follower
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_stream_of_changes_that_is_proven_all_along_is_not_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = Bucket()
        bucket.document(1)
        said = bucket.prove()
        async with watched(bucket, monkeypatch) as follower:
            await bucket.beat(said)
            for revision in range(2, 200):
                head = bucket.prove()
                bucket.document(revision)  # the next one is always there before the last proof was looked at
                if revision % 20 == 0:
                    await bucket.beat(said)
                    said = head
                await asyncio.sleep(0.1)
                assert not follower.doubted
            assert (follower.snapshots, bucket.abandoned) == (1, [])

    virtually(main())


def test_a_bucket_that_stays_behind_the_beat_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = Bucket()
        bucket.document(1)
        head = bucket.prove()
        async with watched(bucket, monkeypatch) as follower:
            await bucket.beat(head)
            await asyncio.sleep(1.0)
            assert not follower.doubted
            ahead = signed(head.model_copy(update={"revision": 7, "hash": documents.set_hash([("x", 7, "d")])}))
            while not bucket.abandoned:
                await bucket.beat(ahead)
                await asyncio.sleep(0.5)
            assert bucket.abandoned == ["what is held differs from what the leader says (proven)"]

    virtually(main())
