"""One JSON document (RFC 8259), read without recursion and with the place of everything.

Always holds: a good document costs one pass of the standard library's decoder; only when something is wrong, or
somebody asks for a place, our own slow reader goes over the text.  Called by `composing`.
"""

import json
import re
from typing import Any, Final

from controlplane.admission import bounds
from controlplane.admission.growing import DOUBT, Growth, Limits, Stop
from schemas.kits.strictjson import NUMBER_MAX

_TOKEN: Final = re.compile(
    r'[ \t\r\n]*(?:(?P<text>"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![\w.+-]))"
    r"|(?P<word>true|false|null)(?!\w)|(?P<mark>[][{},:]))"
)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_WORDS: Final = {"true": True, "false": False, "null": None}


class _Doubt(Exception):  # noqa: N818 (control flow: the slow reader finds the words for it)
    """The fast reader met something that may be wrong."""


def read_fast(text: str, limits: Limits) -> Any:
    """The value of a document that has nothing wrong with it; `growing.DOUBT`: ask `read`."""
    try:
        root = json.loads(text, object_pairs_hook=_pairs, parse_constant=_no, parse_int=_integer, parse_float=_fraction)
    except (ValueError, RecursionError, _Doubt):
        return DOUBT
    if text.count("{") + text.count("[") > limits.depth and bounds.depth(root, limits.depth) > limits.depth:
        return DOUBT
    if len(text) > limits.nodes and bounds.nodes(root, limits.nodes) > limits.nodes:
        return DOUBT
    return root


def read(text: str, growth: Growth) -> None:
    """Read one document into ``growth``; problems are noted there, nothing is raised."""
    try:
        _Reader(text, growth).run()
    except Stop:
        return


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Doubt
    return made


def _no(text: str) -> Any:
    raise _Doubt(text)


def _integer(text: str) -> int:
    if len(text) > NUMBER_MAX:
        raise _Doubt
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if len(text) > NUMBER_MAX or value in {float("inf"), float("-inf")}:
        raise _Doubt
    return value


class _Reader:
    """A tokeniser and a stack of open brackets, which `Growth` keeps."""

    def __init__(self, text: str, growth: Growth) -> None:
        self._text, self._growth = text, growth
        self._at, self._line, self._line_start = 0, 0, 0
        self._open: list[str] = []

    def run(self) -> None:
        """Read one value and nothing after it."""
        kind, piece = self._next("a value")
        while True:
            done = self._value(kind, piece)
            if not done:
                kind, piece = self._inside()
                if kind:
                    continue
            closed = self._after()
            if closed is None:
                break
            kind, piece = closed
        end = _SPACE.match(self._text, self._at)
        self._at = end.end() if end else self._at
        if self._at < len(self._text):
            self._growth.stop("The document has ended, but more text follows; remove it.", *self._place(self._at))

    def _value(self, kind: str, piece: str) -> bool:
        """Take a value that begins with a piece; False: it is a bracket that is open now."""
        place = self._place(self._at - len(piece))
        if kind == "mark" and piece in "{[":
            self._growth.enter({} if piece == "{" else [], *place)
            self._open.append(piece)
            return False
        if kind == "mark":
            self._growth.stop(f"A value was expected here, not '{piece}'.", *place)
        self._growth.leaf(self._decode(kind, piece, place), *place)
        return True

    def _decode(self, kind: str, piece: str, place: tuple[int, int]) -> Any:
        if kind == "word":
            return _WORDS[piece]
        if kind == "number":
            try:
                return json.loads(piece, parse_int=_integer, parse_float=_fraction)
            except _Doubt:
                self._growth.problem(f"The number {piece[:20]} is too long or too big.", *place, "FieldValueInvalid")
                return 0
        return json.loads(piece)

    def _inside(self) -> tuple[str, str]:
        """The first piece inside a bracket just opened; an empty piece if it was closed at once."""
        kind, piece = self._next("a value" if self._open[-1] == "[" else "a key")
        if kind == "mark" and piece == ("]" if self._open[-1] == "[" else "}"):
            self._close()
            return "", ""
        return self._entry(kind, piece)

    def _entry(self, kind: str, piece: str) -> tuple[str, str]:
        """In an object: take the key and the colon, and give the piece after them."""
        if self._open[-1] == "[":
            return kind, piece
        place = self._place(self._at - len(piece))
        if kind != "text":
            self._growth.stop(f"A key in double quotes was expected here, not '{piece[:20]}'.", *place)
        self._growth.key(json.loads(piece), *place)
        kind, piece = self._next("':'")
        if piece != ":" or kind != "mark":
            self._growth.stop("A ':' was expected after the key.", *self._place(self._at - len(piece)))
        return self._next("a value")

    def _after(self) -> tuple[str, str] | None:
        """What follows a value: a comma and the next entry's piece, or the ends of brackets; None: all is closed."""
        while self._open:
            kind, piece = self._next("',' or the closing bracket")
            if kind == "mark" and piece == ",":
                return self._entry(*self._next("a value" if self._open[-1] == "[" else "a key"))
            if kind != "mark" or piece != ("]" if self._open[-1] == "[" else "}"):
                place = self._place(self._at - len(piece))
                self._growth.stop(f"A ',' or the closing bracket was expected here, not '{piece[:20]}'.", *place)
            self._close()
        return None

    def _close(self) -> None:
        self._open.pop()
        self._growth.leave()

    def _next(self, wanted: str) -> tuple[str, str]:
        found = _TOKEN.match(self._text, self._at)
        if found is None or found.lastgroup is None:
            space = _SPACE.match(self._text, self._at)
            at = space.end() if space else self._at
            odd = self._text[at : at + 1]
            what = (
                f"Here is {odd!r}, where {wanted} was expected" if odd else f"The text ends where {wanted} was expected"
            )
            self._growth.stop(f"{what}; JSON needs double quotes around text and has no comments.", *self._place(at))
            raise AssertionError("stop always raises")
        self._at = found.end()
        return found.lastgroup, found.group(found.lastgroup)

    def _place(self, at: int) -> tuple[int, int]:
        """Line and column of an offset; offsets only grow."""
        fresh = self._text.count("\n", self._line_start, at)
        if fresh:
            self._line += fresh
            self._line_start = self._text.rindex("\n", 0, at) + 1
        line, column = self._growth.base
        return line + self._line, at - self._line_start + (column if self._line == 0 else 1)
