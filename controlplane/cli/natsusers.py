"""Who may do what on the NATS server of `modplane up`: one user for each part, each with no more than it needs.

The planes prove themselves with keys of their own (nkeys; the server knows only the public halves); readers of events
share a name and password that stand in the address of ``endpoints.json``.  A worker may follow the desired bucket, and
say its own state and its part of the audit trail, nothing else; a reader may read the events.  Seeds and password are
made once and kept, for their owner's eyes only.

What a permission set cannot hold off: who may create a consumer may have the server deliver what it may read to any
subject.  Desired state is signed for that reason.  Called by `controlplane.cli.up`.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import nkeys

from schemas import names
from schemas.kits.natslink import INBOX
from schemas.kits.natsserver import User
from schemas.kits.signatures import place

FOLDER: Final = "keys"
CONTROL_PLANE: Final = "controlplane"
READER: Final = "reader"


class Users:
    """The users of one server, with their secrets in a folder."""

    def __init__(self, folder: Path, workers: Sequence[str]) -> None:
        """OSError when the folder cannot be written."""
        self._folder = folder / FOLDER
        self._workers = tuple(workers)
        for name in (CONTROL_PLANE, *workers):
            self._secret(self.key_file(name), _seed)
        self.password = self._secret(self._folder / f"{READER}.password", secrets.token_urlsafe)

    def key_file(self, name: str) -> Path:
        """The file with the seed of a worker or of the control plane."""
        return self._folder / f"{name}.nk"

    def url(self, host: str, port: int) -> str:
        """The server's address for readers of events."""
        return f"nats://{READER}:{self.password}@{host}:{port}"

    def listed(self) -> list[User]:
        """All users, as the server is to know them."""
        return [
            User(self._public(CONTROL_PLANE), "", _control_plane_may(), (f"{INBOX}_{CONTROL_PLANE}.>", "modplane.>")),
            User(READER, self.password, _reader_may(), (f"{INBOX}.>", f"{names.SUBJECT_EVENTS}.>")),
            *(
                User(
                    self._public(name),
                    "",
                    _worker_may(name),
                    (f"{INBOX}_{name}.>", names.SUBJECT_BEAT, names.ask_subject(name)),
                )
                for name in self._workers
            ),
        ]

    def _public(self, name: str) -> str:
        pair = nkeys.from_seed(bytearray(self.key_file(name).read_bytes().strip()))
        return bytes(pair.public_key).decode()

    def _secret(self, path: Path, make: Callable[[], str]) -> str:
        if not path.exists():
            place(path, f"{make()}\n".encode(), 0o600)
        return path.read_text().strip()


def _seed() -> str:
    return bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()


def _control_plane_may() -> tuple[str, ...]:
    return (
        "$JS.API.>",
        "$JS.FC.>",
        f"$JS.ACK.{names.STREAM_AUDIT}.>",
        f"$JS.ACK.{names.STREAM_METRICS}.>",
        f"$KV.{names.BUCKET_DESIRED}.>",
        f"$KV.{names.BUCKET_CHECKPOINTS}.>",
        "modplane.>",
    )


def _worker_may(name: str) -> tuple[str, ...]:
    stream = f"KV_{names.BUCKET_DESIRED}"
    return (
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.DELETE.{stream}.*",
        f"$JS.FC.{stream}.>",
        f"$KV.{names.BUCKET_WORKERS}.{name}",
        f"modplane.*.{name}",
    )


def _reader_may() -> tuple[str, ...]:
    stream = names.STREAM_EVENTS
    return (
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.CONSUMER.*.{stream}",
        f"$JS.API.CONSUMER.*.{stream}.>",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.*",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
        f"$JS.ACK.{stream}.>",
        f"$JS.FC.{stream}.>",
    )
