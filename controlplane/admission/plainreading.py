"""One YAML document of plain lines, as most manifests are, read without libyaml in a fraction of its time.

A plain line is ``key: value``, ``key:``, ``- value`` or ``- key: value``; the value is a word, a text in quotes without
escapes, or a bracket of such that closes on the same line.  Always holds: what is read here `yamlreading` reads without
a problem and to the same value; whatever is anything else, bad or only unusual, is left to it.  Called by `composing`.
"""

import functools
import re
from typing import Any, Final, NamedTuple, TypeAlias

from controlplane.admission import bounds, defaulting, yamlreading
from controlplane.admission.growing import DOUBT, Limits
from schemas.meta import Json

_Piece: TypeAlias = tuple[str, str, str, str]
"""Of a bracket: a plain word, a text with its quotes, or a mark; and a colon, if it is a key."""

_WORD: Final = r"(?:[A-Za-z0-9_/(]|-(?=[0-9]))"
_QUOTED: Final = r"""('(?:[ -&(-~]|'')*'|"[ !#-\[\]-~]*")"""
_LINE: Final = re.compile(
    r"( *)(?! )((?:- )*)(?:([A-Za-z0-9_$/][A-Za-z0-9_$/.-]{0,127}):(?: +(?! )|\Z))?"
    rf'(?:({_WORD}(?:[!-9;-~]|:(?=[!-~])| +(?=[!"$-~]))*)|{_QUOTED}|([\[{{][ !"$-~]*[\]}}]))?'
    r" *(?:(?<= )#[\t -~]*)?"
)
"""Spaces, dashes, key; then a plain word, a text in quotes or a bracket; then a comment."""
_EMPTY_LINE: Final = re.compile(r" *(?:#[\t -~]*)?")
_PIECE: Final = re.compile(
    rf"(?:({_WORD}(?:[A-Za-z0-9_/$.+~^=<>()-]|:(?=[A-Za-z0-9_/])| +(?=[A-Za-z0-9_/$.+~^=<>()]))*)"
    rf"|{_QUOTED}|([\[\]{{}},])) *(:(?= ))? *"
)
_ELSEWHERE: Final = ("\r", ": |", ": >", "- |", "- >")
"""Line ends of another sort, and texts of several lines: seen before any line is read in vain."""
_KEY, _DASHES, _MARK = 3, 2, 2
_COMMA: Final = (",", "")
_BRACKETS: Final = 8
"""Inside each other."""
_SHORT: Final = 120
"""Characters of a line; the short ones of a stream repeat, so what they say is remembered."""


class _Line(NamedTuple):
    """What one line says."""

    column: int
    dashes: int
    key: str | None
    value: Any
    below: bool
    """Whether it is only a key, whose value stands on the next lines or is null."""


class _NotPlainError(Exception):
    """Something that `yamlreading` has to look at."""


def read_fast(text: str, limits: Limits) -> Any:
    """The value of a document that is plain; `growing.DOUBT`: ask `yamlreading`."""
    if not text.isascii() or any(mark in text for mark in _ELSEWHERE):
        return DOUBT
    lines = text.split("\n")
    if lines[0].rstrip(" ") == "---":
        lines[0] = ""
    try:
        value = _follow(lines, limits.depth - _BRACKETS)
    except (_NotPlainError, ValueError):
        return DOUBT
    return DOUBT if len(text) > limits.nodes and bounds.nodes(value, limits.nodes) > limits.nodes else value


def _follow(lines: list[str], depth: int) -> Any:  # noqa: C901, PLR0912 (one loop: it runs for every line of every good document)
    """The value that the lines build."""
    root: Any = None
    column, holder, waiting = -1, root, None
    levels: list[tuple[int, Any]] = []
    for line in lines:
        found = _remembered(line) if len(line) <= _SHORT else _line(line)
        if found is None:
            continue
        at, dashes, key, value, below = found
        if at > column or (at == column and dashes and waiting is not None):
            opened: Any = [] if dashes else {}
            if waiting is not None:
                holder[waiting] = opened
            elif root is None:
                root = opened
            else:
                raise _NotPlainError
            levels.append((column, holder))
            column, holder = at, opened
        else:
            while at < column or (at == column and not dashes and holder.__class__ is list):
                column, holder = levels.pop()
            if at != column or (holder.__class__ is list) != (dashes > 0):
                raise _NotPlainError
        if value.__class__ is dict or value.__class__ is list:
            value = defaulting.copied(value)
        if len(levels) + dashes > depth:
            raise _NotPlainError
        for place in range(1, dashes + (key is not None)):
            opened = {} if place == dashes else []
            holder.append(opened)
            levels.append((column, holder))
            column, holder = column + 2, opened
        if key is None:
            holder.append(value)
        elif key in holder:
            raise _NotPlainError
        else:
            holder[key] = value
        waiting = key if below else None
    return root


@functools.lru_cache(4096)
def _remembered(line: str) -> _Line | None:
    return _line(line)


def _line(line: str) -> _Line | None:
    """The parts of a line; None: there is nothing on it."""
    if _EMPTY_LINE.fullmatch(line):
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        raise _NotPlainError
    spaces, dashes, key, plain, quoted, bracket = match.groups()
    below = match.lastindex == _KEY
    if key is None and (not dashes or match.lastindex == _DASHES):
        raise _NotPlainError
    value = _bracket(bracket) if bracket else None if below else _scalar(plain, quoted)
    return _Line(len(spaces), len(dashes) // 2, key, value, below)


def _scalar(plain: str, quoted: str) -> Any:
    """What the one of them means that is there."""
    if plain:
        return yamlreading.scalar(plain) if plain[0] in yamlreading.NOT_TEXT else plain
    return quoted[1:-1].replace("''", "'") if quoted[0] == "'" else quoted[1:-1]


def _bracket(text: str) -> Any:
    """The object or list that a bracket holds."""
    if _PIECE.sub("", text):
        raise _NotPlainError
    pieces = _PIECE.findall(text)
    pieces.reverse()
    try:
        value = _value(pieces, _BRACKETS)
    except IndexError:
        raise _NotPlainError from None
    if pieces:
        raise _NotPlainError
    return value


def _value(pieces: list[_Piece], levels: int) -> Any:
    """The value that comes next; its pieces are taken from the end of the list."""
    plain, quoted, mark, colon = pieces.pop()
    if colon or mark in ("}", "]", ",") or not levels:
        raise _NotPlainError
    if not mark:
        return _scalar(plain, quoted)
    made: Any = {} if mark == "{" else []
    end = ("}" if mark == "{" else "]", "")
    if pieces[-1][_MARK:] == end:
        pieces.pop()
        return made
    following: tuple[str, ...] = _COMMA
    while following == _COMMA:
        if mark == "{":
            _entry(pieces, made, levels - 1)
        else:
            made.append(_value(pieces, levels - 1))
        following = pieces.pop()[_MARK:]
    if following != end:
        raise _NotPlainError
    return made


def _entry(pieces: list[_Piece], made: Json, levels: int) -> None:
    """One entry of an object."""
    plain, quoted, mark, colon = pieces.pop()
    key = plain or quoted[1:-1]
    if mark or not colon or key in made or "'" in key:
        raise _NotPlainError
    made[key] = _value(pieces, levels)
