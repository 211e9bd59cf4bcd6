"""A long stream of documents in pieces, for several processes to read.

Always holds: the documents of the pieces are, together, those of the whole text, each with the same value, problems and
places.  Called by the command line, which has `composing` read the pieces.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from controlplane.admission import composing
from controlplane.admission.growing import Limits, Mark
from schemas.meta import Json
from schemas.problems import Violation

_START: Final = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_Text: TypeAlias = tuple[str, composing.Syntax, Limits, Mark]
_Row: TypeAlias = tuple[int, Json, int, list[Violation], str]
"""The number of its text, and the rest of a document."""


class Piece(NamedTuple):
    """Some whole documents of a stream, as text."""

    line: int
    """At which it begins."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """The documents of a piece; between processes they travel as plain values, in a third of the time."""

    documents: list[composing.Document]

    def __reduce__(self) -> tuple[Any, ...]:
        """Without places that were found already: they are found again if somebody asks."""
        numbers: dict[composing.Text, int] = {}
        rows: list[_Row] = [
            (
                numbers.setdefault(document.source, len(numbers)),
                document.value,
                document.line,
                document.problems,
                document.within,
            )
            for document in self.documents
        ]
        return _batch, ([(text.text, text.syntax, text.limits, text.base) for text in numbers], rows)


def _batch(texts: list[_Text], rows: list[_Row]) -> Batch:
    sources = [composing.Text(*text) for text in texts]
    return Batch(
        [
            composing.Document(value, line, index, problems, sources[number], within)
            for index, (number, value, line, problems, within) in enumerate(rows)
        ]
    )


def cut(data: bytes, size: int, limits: Limits = composing.DEFAULT_LIMITS) -> list[Piece]:
    """Pieces of some ``size``; `join` makes a whole of what `composing` reads in them.

    A line that begins with ``---`` ends whatever came before it, be it in the midst of a text or a bracket (YAML 1.2.2,
    rule 206), so there a stream may be cut.  What may be anything but a stream stays whole.
    """
    whole = len(data) > limits.stream_bytes or data.startswith(composing.UTF16)
    if whole or composing.may_be_json(data.removeprefix(composing.BOM)):
        return [Piece(1, data)]
    pieces: list[Piece] = []
    start, line = 0, 1
    while start < len(data):
        divider = _START.search(data, start + max(size, 1))
        end = len(data) if divider is None else divider.start()
        pieces.append(Piece(line, data[start:end]))
        line += data.count(b"\n", start, end)
        start = end
    return pieces


def read(piece: Piece) -> Batch:
    """The documents of a piece."""
    return Batch(composing.compose(piece.data, line=piece.line))


def join(batches: Iterable[Batch], limits: Limits = composing.DEFAULT_LIMITS) -> list[composing.Document] | None:
    """The documents of a text, from those of all its pieces; None if they may be too many: read it whole."""
    documents = list(itertools.chain.from_iterable(batch.documents for batch in batches))
    for index, document in enumerate(documents):
        document.index = index
    return documents if len(documents) < limits.documents else None
