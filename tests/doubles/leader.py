"""The leader's side of the desired bucket, by hand: documents, head and beat as the control plane writes them."""

import contextlib
import json
from typing import Any

from nats.aio.client import Client
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import NotFoundError

from schemas import documents, names
from schemas.documents import Beat, DesiredDocument, Head
from schemas.meta import Model
from schemas.module import DesiredModule
from schemas.reports import WorkerReport
from tests.doubles.keys import signed


class Leader:
    """Writes a desired set and keeps its proof; every method does one thing, so that a test can do it wrongly."""

    def __init__(self, client: Client, store: str = "store-1") -> None:
        self.client = client
        self.js = client.jetstream()
        self.store = store
        self.epoch = 1
        self.revision = 0
        self.rows: dict[str, DesiredDocument] = {}

    async def make_buckets(self) -> None:
        """Both buckets, as the control plane makes them."""
        await self.js.create_key_value(KeyValueConfig(bucket=names.BUCKET_DESIRED, storage=StorageType.FILE))
        with contextlib.suppress(Exception):
            await self.js.create_key_value(
                KeyValueConfig(bucket=names.BUCKET_WORKERS, storage=StorageType.MEMORY, limit_marker_ttl=60)
            )

    async def wipe(self) -> None:
        """Remove the desired bucket with everything in it."""
        with contextlib.suppress(NotFoundError):
            await self.js.delete_key_value(names.BUCKET_DESIRED)

    async def forget(self, name: str) -> None:
        """Lose a module's document without a word to any watcher."""
        key = names.module_key(name)
        del self.rows[key]
        await self.js.purge_stream(f"KV_{names.BUCKET_DESIRED}", subject=f"$KV.{names.BUCKET_DESIRED}.{key}")

    async def rebuild(self) -> None:
        """Write everything anew into a new bucket."""
        await self.make_buckets()
        for key, row in self.rows.items():
            await self.put(key, row.model_dump_json(by_alias=True).encode())
        await self.prove()

    def document(self, name: str, uid: str, generation: int, module: DesiredModule | None) -> DesiredDocument:
        """The next document of a module; None makes a tombstone."""
        self.revision += 1
        payload = "" if module is None else documents.canonical_json(module.wire())
        row = signed(
            DesiredDocument(
                kind="Module",
                name=name,
                uid=uid,
                generation=generation,
                epoch=self.epoch,
                revision=self.revision,
                digest=documents.payload_digest(payload),
                payload=payload,
                deleted=module is None,
            )
        )
        self.rows[names.module_key(name)] = row
        return row

    async def put(self, key: str, data: bytes) -> int:
        """One raw entry of the desired bucket; its stream sequence."""
        return int((await self.js.publish(f"$KV.{names.BUCKET_DESIRED}.{key}", data)).seq)

    async def desire(self, name: str, module: DesiredModule | None, *, uid: str = "u1", generation: int = 1) -> None:
        """Document, then head."""
        row = self.document(name, uid, generation, module)
        await self.put(names.module_key(name), row.model_dump_json(by_alias=True).encode())
        await self.prove()

    async def standing_rows(self) -> dict[str, DesiredDocument]:
        """What the bucket holds, for a leader that takes over."""
        bucket = await self.js.key_value(names.BUCKET_DESIRED)
        rows = {}
        for key in await bucket.keys():
            if key != names.KEY_HEAD:
                entry = await bucket.get(key)
                rows[key] = DesiredDocument.model_validate_json(entry.value or b"")
        return rows

    async def tell(self, kind: str, key: str, content: Model | None) -> None:
        """A document of another kind than Module, then head; None makes a tombstone."""
        self.revision += 1
        payload = "" if content is None else documents.canonical_json(content.wire())
        row = signed(
            DesiredDocument(
                kind=kind,
                name=key.partition(".")[2],
                uid="u",
                generation=1,
                epoch=self.epoch,
                revision=self.revision,
                digest=documents.payload_digest(payload),
                payload=payload,
                deleted=content is None,
            )
        )
        self.rows[key] = row
        await self.put(key, row.model_dump_json(by_alias=True).encode())
        await self.prove()

    def head(self) -> Head:
        """The proof of the present set."""
        live = [(key, row.revision, row.digest) for key, row in self.rows.items() if not row.deleted]
        return signed(
            Head(
                store=self.store,
                epoch=self.epoch,
                revision=self.revision,
                count=len(live),
                hash=documents.set_hash(live),
            )
        )

    async def prove(self, head: Head | None = None) -> None:
        """Write the head."""
        await self.put(names.KEY_HEAD, (head or self.head()).model_dump_json(by_alias=True).encode())

    async def beat(self, created: str = "2030-01-01T00:00:00Z") -> None:
        """One beat."""
        beat = Beat(**self.head().model_dump(), sequence=0, created=created)
        await self.client.publish(names.SUBJECT_BEAT, beat.model_dump_json(by_alias=True).encode())
        await self.client.flush()

    async def report(self, worker: str) -> WorkerReport | None:
        """A worker's latest report."""
        try:
            message = await self.js.get_last_msg(f"KV_{names.BUCKET_WORKERS}", f"$KV.{names.BUCKET_WORKERS}.{worker}")
        except Exception:  # noqa: BLE001 - not there yet, or the server is away
            return None
        return WorkerReport.model_validate_json(message.data) if message.data else None

    @staticmethod
    def shown(report: WorkerReport) -> dict[str, Any]:
        """A report as a person reads it."""
        return json.loads(report.model_dump_json())  # type: ignore[no-any-return]
