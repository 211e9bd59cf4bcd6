"""Whatever bytes stand under a key of the desired bucket: applied, ignored or refused, and the other keys never notice.

The corpus holds documents without a signature; each is tried as it is, and once more signed by the control plane's own
key, so that what lies behind the signature is reached too.
"""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dataplane.agent import holding, keeping, planning
from dataplane.agent.keeping import Place
from schemas import documents, names
from schemas.documents import DesiredDocument, Head
from schemas.module import DesiredModule
from tests.doubles import corpora
from tests.doubles.keys import TRUSTED, signed

CORPUS: Final = corpora.files("documents")
MARKS: Final = [
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"null", b"true", b"-1", b"0", b"1e9", b"1e999", b"NaN"),
    *(b"9" * 30, b"\x00", b"\xff", b"\\ud800", b"\\u0000", b'"schema":2', b'"deleted":true', b"secret://x"),
]  # fmt: skip
INPUTS: Final = corpora.changed(list(CORPUS.values()), MARKS, longest=3_000) | st.binary(max_size=200)
KEYS: Final = st.sampled_from([names.module_key("fuzzed"), names.module_key("good"), "flag.x", names.KEY_HEAD, "x"])
GOOD: Final = DesiredModule(entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace="good")
NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)


def document(name: str, revision: int) -> DesiredDocument:
    payload = documents.canonical_json(GOOD.wire())
    return signed(
        DesiredDocument(
            kind="Module", name=name, uid="u", generation=1, epoch=1, revision=revision,
            digest=documents.payload_digest(payload), payload=payload,
        )
    )  # fmt: skip


def wire(model: DesiredDocument | Head) -> bytes:
    return model.model_dump_json(by_alias=True).encode()


def proof(entries: list[tuple[str, int, str]], revision: int) -> bytes:
    hashed = documents.set_hash(entries)
    return wire(signed(Head(store="s", epoch=1, revision=revision, count=len(entries), hash=hashed)))


def resigned(data: bytes) -> bytes:
    """The bytes, or the document that they are with a true digest and a true signature."""
    try:
        found = DesiredDocument.model_validate_json(data)
        true = found.model_copy(update={"digest": documents.payload_digest(found.payload)})
        return wire(signed(true))
    except (ValidationError, ValueError):
        return data


class Worker:
    """What one worker believes, with a file to keep it in."""

    def __init__(self, folder: Path) -> None:
        self.held = holding.Held(TRUSTED)
        self.file = keeping.File(folder / "w0.db", worker="w0", boot="b", trusted=TRUSTED)
        good = document("good", 5)
        entry = (names.module_key("good"), 5, good.digest)
        self.held.begin()
        self.held.read(entry[0], wire(good))
        self.held.read(names.KEY_HEAD, proof([entry], 5))
        assert self.held.finish() is holding.Standing.PROVEN
        self.held.take_changes()

    def save(self) -> None:
        """As the agent saves: everything that is believed, newest documents only."""
        changes = {(key, Place.NEWEST): self.held.document(key) for key in self.held.take_touched()}
        self.file.save(self.held.proof, changes, NOW)


def held(data: bytes, key: str, folder: Path) -> bool:
    """Whether anything is wanted under another name than before; with all that has to be true of it checked."""
    worker = Worker(folder)
    before = worker.held.wanted["good"]
    refused_before = len(worker.held.refused)
    standing = worker.held.read(key, data)
    assert isinstance(standing, holding.Standing)
    assert all(found.key == key and found.message and found.reason for found in worker.held.refused[refused_before:])
    if key != names.module_key("good"):
        assert worker.held.wanted["good"] is before
    for name, wanted in worker.held.take_changes().items():
        assert names.module_key(name) == key
        if wanted is not None:
            planning.fingerprint(wanted, "host/1")
            planning.fails_alike(wanted)
            assert isinstance(wanted.desired, DesiredModule)
    worker.save()
    worker.file.close()
    kept = keeping.File(folder / "w0.db", worker="w0", boot="c", trusted=TRUSTED).load()
    assert kept is not None
    later = document("later", 1_000)
    worker.held.read(names.module_key("later"), wire(later))
    assert worker.held.wanted["later"].order == later.order
    return set(worker.held.wanted) != {"good", "later"} or worker.held.wanted["good"] is not before


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("name", CORPUS)
def test_every_kept_document_becomes_what_its_name_says(name: str, folder: Path) -> None:
    data = CORPUS[name]
    assert not held(data, names.module_key("fuzzed"), folder), "nobody has signed it"
    assert held(resigned(data), names.module_key("fuzzed"), folder) is name.startswith("good-")


@given(INPUTS, KEYS, st.booleans())
def test_any_bytes_under_any_key_harm_no_other_key(data: bytes, key: str, sign: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        held(resigned(data) if sign else data, key, Path(folder))


@pytest.mark.slow
@settings(max_examples=1_500)
@given(INPUTS, KEYS, st.booleans())
def test_any_bytes_for_longer(data: bytes, key: str, sign: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        held(resigned(data) if sign else data, key, Path(folder))
