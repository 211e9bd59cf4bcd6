"""Rule 24: one canonical path or a refusal."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.gateway import paths

PREFIX = b"/api/v1/modules/v1/shop"


@pytest.mark.parametrize(
    "path",
    [b"/", b"/health", PREFIX, PREFIX + b"/", PREFIX + b"/a.b/..c/.d/e..", PREFIX + b"/caf%C3%A9", PREFIX + b"/a%20b",
     PREFIX + b"/x;v=1/@me/a:b", PREFIX + b"/%E2%82%AC/"],
)  # fmt: skip
def test_a_canonical_path_is_accepted(path: bytes) -> None:
    assert paths.refusal(path) is None


@pytest.mark.parametrize(
    ("path", "word"),
    [
        (PREFIX + b"/a%2Fb", "slash"), (PREFIX + b"/a%2fb", "slash"), (PREFIX + b"/a%5Cb", "backslash"),
        (PREFIX + b"/a\\b", "percent-encoded"), (PREFIX + b"//a", "empty"), (b"//api/v1/modules/v1/shop", "empty"),
        (PREFIX + b"/a//", "empty"), (PREFIX + b"/../admin", "dot segment"), (PREFIX + b"/./a", "dot segment"),
        (PREFIX + b"/..", "dot segment"), (PREFIX + b"/%2e%2e/a", "dot segment"), (PREFIX + b"/.%2E/a", "dot segment"),
        (PREFIX + b"/..;x/a", "dot segment"), (PREFIX + b"/%2e;x=1", "dot segment"),
        (PREFIX + b"/%252e%252e/a", "encoded twice"), (PREFIX + b"/a%252fb", "encoded twice"),
        (PREFIX + b"/%ff", "UTF-8"), (PREFIX + b"/%C0%AE%C0%AE/a", "UTF-8"), (PREFIX + b"/%00", "control"),
        (PREFIX + b"/a%0d%0ab", "control"), (PREFIX + b"/%7f", "control"), (PREFIX + b"/%C2%85", "control"),
        (PREFIX + b"/a%zz", "percent-encod"), (PREFIX + b"/a%2", "percent-encod"), (PREFIX + b"/a b", "percent-encod"),
        (PREFIX + b"/\xc3\xa9", "percent-encod"), (b"", "percent-encod"), (b"*", "percent-encod"),
        (b"/api/v1/modules/v1/sh%6Fp/a", "without percent"), (b"/api/v1/modules/%761/shop/a", "without percent"),
        (b"/%61pi/v1/modules/v1/shop/a", "without percent"),
    ],
)  # fmt: skip
def test_a_path_with_two_readings_is_refused(path: bytes, word: str) -> None:
    assert word in (paths.refusal(path) or "accepted")


@given(st.binary(max_size=40))
def test_what_is_accepted_has_one_reading(tail: bytes) -> None:
    path = PREFIX + b"/" + tail
    if paths.refusal(path) is None:
        decoded = unquote_to_bytes(path).decode("utf-8")
        segments = decoded.split("/")[1:]
        assert len(segments) == len(path.split(b"/")[1:])
        assert not {".", ".."} & set(segments)
        assert "" not in segments[:-1]
        assert "\\" not in decoded
        assert decoded.startswith(PREFIX.decode() + "/")
        assert all(
            character.isprintable() or character in "\u00ad\u00a0" or ord(character) > 0xFF for character in decoded
        )


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.booleans())
def test_the_fast_way_accepts_no_more_than_the_slow_one(segment: str, slash: bool) -> None:
    path = f"/{segment}{'/' if slash else ''}".encode()
    assert paths.is_plain(path)
    assert paths.refusal(path) is None


def test_the_other_slash_form_is_starlettes() -> None:
    assert [paths.with_other_slash(path) for path in ("", "/a", "/a/")] == ["/", "/a/", "/a"]
    assert [paths.raw_with_other_slash(path) for path in (b"/a", b"/a/")] == [b"/a/", b"/a"]
