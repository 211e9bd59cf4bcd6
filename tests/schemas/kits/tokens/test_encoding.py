"""One spelling: what decodes encodes to the same again, and JSON that two readers may read differently is refused."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.kits.tokens import encoding


@given(st.binary(max_size=200))
def test_what_was_encoded_decodes(raw: bytes) -> None:
    assert encoding.decoded(encoding.encoded(raw).encode()) == raw


@given(st.binary(max_size=40))
def test_what_is_accepted_is_the_only_spelling(text: bytes) -> None:
    try:
        raw = encoding.decoded(text)
    except ValueError:
        return
    assert encoding.encoded(raw).encode() == text


@given(st.text(alphabet="ABCDEFGHQRSTgwxyz0189-_", max_size=12))
def test_no_two_spellings_of_the_same_bytes(text: str) -> None:
    canonical = (
        base64.urlsafe_b64encode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if len(text) % 4 != 1
        else None
    )
    expected = canonical is not None and canonical.rstrip(b"=") == text.encode()
    try:
        encoding.decoded(text.encode())
    except ValueError:
        assert not expected
    else:
        assert expected


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.lists(st.text()))))
def test_ordinary_objects_are_read_as_they_are(value: dict[str, object]) -> None:
    assert encoding.parsed(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b'"x"', b"1", b"null", b'{"a":1,"a":2}', b'{"b":{"a":1,"a":1}}', b'{"a":1e400}', b'{"a":-1e999}',
        b'{"a":NaN}', b'{"a":Infinity}', b'{"a":"\xff"}', b"\xef\xbb\xbf{}", b'{"a":"\\ud800"}', b'{"a":1}x',
        b"{'a':1}",
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a":' + b"9" * 5000 + b"}", b'{"a":01}', b'{"\\ud800":1}',
    ],
)  # fmt: skip
def test_what_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that it is no other error is the point
        encoding.parsed(raw)


def test_an_escaped_pair_is_a_character() -> None:
    assert encoding.parsed(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"b":', b"}")])
def test_no_deeper_than_is_said(left: bytes, right: bytes) -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' + left * (levels - 1) + b"1" + right * (levels - 1) + b"}"

    assert encoding.parsed(nested(encoding.DEPTH)) is not None
    with pytest.raises(ValueError, match="deeply"):
        encoding.parsed(nested(encoding.DEPTH + 1))


def test_brackets_side_by_side_are_not_deep() -> None:
    value = {"keys": [{"a": [number]} for number in range(100)], "text": "[" * 100}
    assert encoding.parsed(json.dumps(value).encode()) == value
