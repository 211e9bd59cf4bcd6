"""Desired state on the wire: documents, the head that proves the set, the beat, and the set hash.

Order is (epoch, revision), compared per key; never generation.  Pure, but for nothing.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field

from schemas.kits import jsontexts
from schemas.meta import Model

SCHEMA: Final = 1
"""The document format that this code writes and the newest that it reads."""

Counted: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]
"""What the store counts with, and every database of ours can hold."""

_MODULUS: Final = 1 << 128


class DesiredDocument(Model):
    """One key of the desired bucket; the payload is a string, so that a signature covers exact bytes."""

    schema_: int = SCHEMA
    kind: str
    name: str
    uid: str
    generation: Counted
    epoch: Counted
    revision: Counted
    digest: str
    """sha256 of ``payload`` (UTF-8), as ``sha256:<hex>``."""
    payload: str = ""
    deleted: bool = False
    """A tombstone: what this key named is to go."""
    kid: str | None = None
    sig: str | None = None

    model_config = {**Model.model_config, "alias_generator": lambda field: "schema" if field == "schema_" else field}

    @property
    def order(self) -> tuple[int, int]:
        """What decides which of two documents of one key is newer."""
        return (self.epoch, self.revision)

    def intact(self) -> bool:
        """Whether the digest is that of the payload."""
        return self.digest == payload_digest(self.payload)

    def signed_bytes(self) -> bytes:
        """What `sig` covers: everything but the signature; the payload by its digest."""
        return _signed("document", self)


class Head(Model):
    """The proof of a whole set: what ``head`` in the desired bucket holds."""

    schema_: int = SCHEMA
    store: str
    epoch: Counted
    revision: Counted
    count: Counted
    hash: str
    kid: str | None = None
    sig: str | None = None

    model_config = {**Model.model_config, "alias_generator": lambda field: "schema" if field == "schema_" else field}

    @property
    def order(self) -> tuple[int, int]:
        """What decides which of two heads is newer."""
        return (self.epoch, self.revision)

    def signed_bytes(self) -> bytes:
        """What `sig` covers: everything that a head says; of a beat, its head."""
        return _signed("head", self, Head.model_fields)


class Beat(Head):
    """What the leader says every two seconds: the head, and which bucket it stands in."""

    sequence: int
    """The bucket's last stream sequence."""
    created: str
    """When the bucket's stream was created (RFC 3339), as the server tells it."""


_UNSIGNED: Final = frozenset({"payload", "kid", "sig"})


def _signed(what: str, document: Model, fields: Iterable[str] | None = None) -> bytes:
    """A document's fields in one spelling, after a word that keeps one kind of signature from standing for another."""
    names = fields if fields is not None else type(document).model_fields
    said = {name: getattr(document, name) for name in names if name not in _UNSIGNED}
    return f"modplane.{what}\0{canonical_json(said)}".encode()


def canonical_json(value: Any) -> str:
    """``value`` as JSON in one spelling: sorted keys, no spaces, no NaN (after RFC 8785, without its number rules)."""
    data = jsontexts.quick(value, ordered=True)
    if data is not None:
        return data.decode()
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def payload_digest(payload: str) -> str:
    """``sha256:<hex>`` of a payload's UTF-8 bytes."""
    return "sha256:" + hashlib.sha256(payload.encode()).hexdigest()


def member_hash(key: str, revision: int, digest: str) -> int:
    """One document's share of the set hash: 128 bits of sha256 over key, revision and digest."""
    text = f"{key}\0{revision}\0{digest}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "big")


def add_members(total: int, members: Iterable[int]) -> int:
    """``total`` with more members, modulo 2**128: the order of adding does not matter."""
    for member in members:
        total = (total + member) % _MODULUS
    return total


def remove_member(total: int, member: int) -> int:
    """``total`` without a member that was added before."""
    return (total - member) % _MODULUS


def hash_text(total: int) -> str:
    """A set hash as 32 hex digits."""
    return f"{total:032x}"


def set_hash(members: Iterable[tuple[str, int, str]]) -> str:
    """The hash of a whole set of (key, revision, digest)."""
    return hash_text(add_members(0, (member_hash(*member) for member in members)))
