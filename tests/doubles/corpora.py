"""Inputs that were interesting once, kept as files, and inputs made of them by small changes.

A file's name begins with what has to become of it (``good-``, ``bad-``) and goes on with why it is there.  An input
that breaks a property is added as a file of its own, so that it is tried for ever.
"""

from pathlib import Path
from typing import Final

from hypothesis import strategies as st

ROOT: Final = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"


def files(room: str) -> dict[str, bytes]:
    """Name → bytes of every file of a room of the corpus."""
    return {file.name: file.read_bytes() for file in sorted((ROOT / room).iterdir())}


def lines(room: str, name: str) -> list[bytes]:
    """The lines of a file that holds one short input a line."""
    return (ROOT / room / name).read_bytes().splitlines()


def changed(inputs: list[bytes], marks: list[bytes], longest: int = 4_000) -> st.SearchStrategy[bytes]:
    """One of the inputs, cut to a length, with a few pieces of it replaced by marks, bytes or pieces of another."""
    piece = st.one_of(
        st.sampled_from(marks),
        st.binary(max_size=4),
        st.builds(
            lambda other, at, size: other[at % max(len(other), 1) :][:size],
            st.sampled_from(inputs),
            st.integers(0, longest),
            st.integers(0, 60),
        ),
    )
    edit = st.tuples(st.integers(0, longest), st.integers(0, 20), piece)
    return st.builds(_edited, st.sampled_from(inputs).map(lambda data: data[:longest]), st.lists(edit, max_size=4))


def _edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, size, fresh in edits:
        at = place % (len(data) + 1)
        data = data[:at] + fresh + data[at + size :]
    return data
