"""A stream in pieces: the same documents, problems and places as in one."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import composing, cutting, growing
from tests.doubles import corpora

_CORPUS = [data for data in corpora.files("manifests").values() if len(data) < 4_000]
_LINES = [
    *(b"---\n", b"---\r\n", b"--- {a: 1}\n", b"---\r", b"\r---\n", b" ---\n", b"----\n", b"---", b"...\n", b"\n", b""),
    *(b"%YAML 1.2\n", b"%TAG ! x\n", b"# a\n", b"a: 1\n", b"a: |\n  text\n", b"  more\n", b"b: [1,\n", b"{c: 2}\n"),
    *(b"'x\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff\n", b"kind: List\nitems:\n- {a: 1}\n- {b: 2}\n", b"- 3\n"),
    *(b'{"a": 1}\n', b"[\n"),
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(_LINES), max_size=30).map(b"".join) | st.lists(
    st.sampled_from(_CORPUS), max_size=4
).map(b"\n---\n".join)


def told(documents: list[composing.Document]) -> list[Any]:
    """Everything that can be seen of documents."""
    return [
        (
            repr(document.value),
            document.line,
            document.index,
            document.problems,
            [document.locate(problem) for problem in document.problems],
            [document.mark(pointer) for pointer in ("", "/a", "/metadata/name", "/items/1")],
            document.within,
        )
        for document in documents
    ]


@given(STREAMS, st.integers(0, 60))
def test_pieces_hold_what_the_whole_holds(data: bytes, size: int) -> None:
    pieces = cutting.cut(data, size)
    assert b"".join(piece.data for piece in pieces) == data
    batches = [pickle.loads(pickle.dumps(cutting.read(piece))) for piece in pieces]
    joined = cutting.join(batches)
    assert joined is not None
    assert told(joined) == told(composing.compose(data))


def test_a_stream_is_cut_where_a_document_begins() -> None:
    data = b"a: 1\n---\nb: |\n  ---\n  x\n---\nc: 1\n...\n---\nd: 1\n"
    assert [tuple(piece) for piece in cutting.cut(data, 1)] == [
        (1, b"a: 1\n"),
        (2, b"---\nb: |\n  ---\n  x\n"),
        (6, b"---\nc: 1\n...\n"),
        (9, b"---\nd: 1\n"),
    ]
    assert len(cutting.cut(data, len(data))) == 1


@pytest.mark.parametrize("head", [b"{a: 1}\n", b"\xef\xbb\xbf  [1]\n", b"\xff\xfe"])
def test_what_may_be_no_stream_stays_whole(head: bytes) -> None:
    assert len(cutting.cut(head + b"---\nb: 1\n", 1)) == 1


def test_a_text_over_the_limits_is_not_told_in_pieces() -> None:
    data = b"a: 1\n---\n" * 3
    assert len(cutting.cut(data, 1, growing.Limits(stream_bytes=8))) == 1
    batches = [cutting.read(piece) for piece in cutting.cut(data, 1)]
    assert cutting.join(batches, growing.Limits(documents=3)) is None
    assert cutting.join(batches, growing.Limits(documents=4)) is not None


def test_items_of_a_list_keep_sharing_their_text() -> None:
    batch = cutting.read(cutting.Piece(7, b"kind: List\nitems:\n- {a: 1}\n- {b: 2}\n"))
    one, two = pickle.loads(pickle.dumps(batch)).documents
    assert one.source is two.source
    assert two.mark("/b") == (10, 7)
