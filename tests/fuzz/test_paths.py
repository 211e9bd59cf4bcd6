"""Whatever bytes come as a request's path: one reading, on which every reader agrees, or a refusal."""

import posixpath
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import given, settings

from dataplane.gateway import paths
from tests.doubles import corpora

GOOD: Final = corpora.lines("paths", "good.txt")
BAD: Final = corpora.lines("paths", "bad.txt")
MARKS: Final = [
    *(b"/", b"//", b".", b"..", b"/..", b";", b"%", b"%2f", b"%2F", b"%5c", b"\\", b"%2e", b"%2E", b"%252e", b"%00"),
    *(b"?", b"#", b"%ff", b"%zz", b"%E2%80%A8", b"%C3%A4", b"%c0%af", b"\x00", b"\r\n", b" ", b"@", b":", b"%25"),
]  # fmt: skip
INPUTS: Final = corpora.changed([*GOOD, *BAD], MARKS, longest=200)


def held(raw: bytes) -> bool:
    """Whether a path is accepted; if so, that nobody can read it in another way."""
    refusal = paths.refusal(raw)
    assert refusal is None or (0 < len(refusal) < 200 and refusal.isprintable())
    if paths.is_plain(raw):
        assert refusal is None
        assert unquote_to_bytes(raw) == raw
    if refusal is not None:
        return False
    decoded = unquote_to_bytes(raw).decode("utf-8")
    once = unquote(raw.decode("ascii"), errors="strict")
    assert decoded == once
    assert unquote(once) == once
    assert "\\" not in once
    assert once.startswith("/")
    assert posixpath.normpath(once) + ("/" if once.endswith("/") and once != "/" else "") == once
    assert [segment.partition(";")[0] for segment in once.split("/")].count("..") == 0
    assert raw.count(b"/") == once.count("/")
    assert once.isprintable() or all(ord(char) > 0x9F for char in once if not char.isprintable())
    return True


@pytest.mark.parametrize("raw", GOOD, ids=repr)
def test_every_kept_good_path_is_accepted(raw: bytes) -> None:
    assert held(raw)


@pytest.mark.parametrize("raw", BAD, ids=repr)
def test_every_kept_bad_path_is_refused(raw: bytes) -> None:
    assert not held(raw)


@given(INPUTS)
def test_any_bytes_have_one_reading_or_none(raw: bytes) -> None:
    held(raw)


@pytest.mark.slow
@settings(max_examples=4_000)
@given(INPUTS)
def test_any_bytes_for_longer(raw: bytes) -> None:
    held(raw)
