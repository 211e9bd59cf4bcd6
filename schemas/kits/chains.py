"""Chains of records: the hash of each covers all before it, so that none is changed, taken out or put in unseen.

    h(0) = SHA-256(who writes)        h(n) = SHA-256(h(n-1) ‖ record n)

A writer's chain begins with each of its boots; a record is a JSON object in one spelling that names its writer, boot
and number itself, so it cannot stand in another place or chain.  Records travel in batches that say on what hash they
follow.  What a chain alone does not show, a tail that is cut off or a whole chain written anew, a signed `Statement` of
where it ends shows.  Pure; knows nothing of what is recorded.

Source: S. Crosby and D. Wallach, Efficient Data Structures for Tamper-Evident Logging, USENIX Security 2009.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

Json = dict[str, Any]

_DOMAIN: Final = b"modplane.chain\0"
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_NUMBER_MAX: Final = 2**53
BATCH_BYTES: Final = 512 * 1024
"""A longer batch is refused unread."""


class Chain(NamedTuple):
    """Whose records they are."""

    writer: str
    boot: str


class Head(NamedTuple):
    """Where a chain stands."""

    seq: int
    """Of the newest record; 0: there is none yet."""
    hash: bytes


class UnreadableError(ValueError):
    """A batch or statement that is not one; the message says why."""


def genesis(chain: Chain) -> Head:
    """Where a chain begins."""
    return Head(0, hashlib.sha256(_DOMAIN + f"{chain.writer}\0{chain.boot}".encode()).digest())


def follow(before: Head, record: bytes) -> Head:
    """Where a chain stands after one more record."""
    return Head(before.seq + 1, link(before.hash, record))


def link(before: bytes, record: bytes) -> bytes:
    """The hash of a record and all before it, whose hash is ``before``."""
    return hashlib.sha256(before + record).digest()


def canonical(record: Json) -> bytes:
    """A record in its one spelling: UTF-8, keys sorted, no spaces, nothing that breaks a line; ValueError."""
    return to_json(dict(sorted(record.items())))


def belongs(record: bytes, chain: Chain, seq: int) -> Json | None:
    """The record, if it is in its one spelling and names exactly this place of this chain; else None."""
    try:
        found = json.loads(record)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or (found.get("writer"), found.get("boot"), found.get("seq")) != (*chain, seq):
        return None
    try:
        return found if type(found["seq"]) is int and canonical(found) == record else None
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one chain that follow on each other."""

    chain: Chain
    before: Head
    records: Sequence[bytes]

    @property
    def first(self) -> int:
        """Number of the first record."""
        return self.before.seq + 1

    @property
    def last(self) -> int:
        """Number of the last record."""
        return self.before.seq + len(self.records)

    @property
    def id(self) -> str:
        """The same for every try to send it."""
        return f"{self.chain.writer}.{self.chain.boot}.{self.first}"

    def encode(self) -> bytes:
        """As it travels: a line of what it follows on, then a line for each record."""
        head = {"writer": self.chain.writer, "boot": self.chain.boot, "seq": self.before.seq}
        return b"\n".join((canonical(head | {"hash": self.before.hash.hex()}), *self.records))


def decode(data: bytes) -> Batch:
    """A batch as it came; UnreadableError.  Its records are not looked at."""
    if len(data) > BATCH_BYTES:
        raise UnreadableError(f"a batch has at most {BATCH_BYTES:,} bytes")
    line, *records = data.split(b"\n")
    try:
        said = json.loads(line)
        chain, before = _chain(said), _head(said, "")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnreadableError(f"its first line names no place in a chain: {error}"[:200]) from error
    if not records:
        raise UnreadableError("it has no records")
    return Batch(chain, before, records)


class Break(NamedTuple):
    """Records that a chain is known to lack."""

    after: int
    """The last one before them."""
    before: Head
    """What the next one follows on."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Which records of a chain there are, to be signed: those behind ``base`` up to ``head``."""

    chain: Chain
    base: Head
    """What the oldest kept record follows on."""
    head: Head
    closed: bool
    """Whether the writer said that it ends."""
    breaks: tuple[Break, ...] = ()

    def said(self) -> bytes:
        """The statement in its one spelling."""
        return canonical(
            {
                "writer": self.chain.writer,
                "boot": self.chain.boot,
                "base": self.base.seq,
                "baseHash": self.base.hash.hex(),
                "head": self.head.seq,
                "headHash": self.head.hash.hex(),
                "closed": self.closed,
                "breaks": [[each.after, each.before.seq, each.before.hash.hex()] for each in self.breaks],
            }
        )

    def signed_bytes(self) -> bytes:
        """What a signature covers, after a word that keeps it from standing for another kind."""
        return b"modplane.checkpoint\0" + self.said()


def statement(said: bytes | str) -> Statement:
    """A statement as it was kept; UnreadableError."""
    try:
        found = json.loads(said)
        breaks = tuple(
            Break(_number(after), Head(_number(seq), _digest(digest))) for after, seq, digest in found["breaks"]
        )
        return Statement(_chain(found), _head(found, "base"), _head(found, "head"), found["closed"] is True, breaks)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnreadableError(f"it states nothing about a chain: {error}"[:200]) from error


def _chain(said: Json) -> Chain:
    writer, boot = said["writer"], said["boot"]
    if not (isinstance(writer, str) and isinstance(boot, str) and _WORD.fullmatch(writer) and _WORD.fullmatch(boot)):
        raise ValueError("writer and boot are short words")
    return Chain(writer, boot)


def _head(said: Json, word: str) -> Head:
    return Head(_number(said[word or "seq"]), _digest(said[f"{word}Hash" if word else "hash"]))


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _NUMBER_MAX:
        raise ValueError("a number counts records")
    return value


def _digest(value: object) -> bytes:
    if not isinstance(value, str) or _HASH.fullmatch(value) is None:
        raise ValueError("a hash has 64 hexadecimal digits")
    return bytes.fromhex(value)
