"""Text to documents: YAML streams and JSON, each document on its own, each knowing where everything stands.

Always holds: nothing is raised for bad input; a broken document has problems and the others are read all the
same; time and memory are linear in the text.  Places (``line:column``) are found by reading a document a second
time, only when somebody asks.  Called by the command line, the API and discovery; `validating` follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from controlplane.admission import jsonreading, pointers, wording, yamlreading
from controlplane.admission.growing import Growth, Limits, Mark, TextProblem
from schemas.meta import Json
from schemas.problems import Violation

Syntax: TypeAlias = Literal["yaml", "json"]

DEFAULT_LIMITS: Final = Limits()

_DIVIDER: Final = re.compile(rb"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
_ODD: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BLANK: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z))*\Z")
_DIRECTIVE: Final = re.compile(r"^%YAML[ \t]+1\.[12][ \t]*(?:#.*)?\r?$", re.MULTILINE)
_KEY_REASONS: Final = frozenset({"FieldValueForbidden", "FieldValueDuplicate"})


@dataclass(frozen=True, slots=True)
class _Text:
    """What a document was read from, kept to find places in it."""

    text: str
    syntax: Syntax
    limits: Limits


class Document:
    """One document of a text."""

    __slots__ = ("_growth", "_text", "index", "line", "problems", "value")

    def __init__(self, value: Json, line: int, index: int, problems: list[Violation], text: _Text) -> None:
        """``line``: where it begins in its file, from 1; ``index``: which of the file's documents, from 0.

        ``value`` is of use only without ``problems``.
        """
        self.value, self.line, self.index, self.problems = value, line, index, problems
        self._text = text
        self._growth: Growth | None = None

    def __repr__(self) -> str:
        return f"Document(index={self.index}, line={self.line}, problems={len(self.problems)})"

    def mark(self, pointer: str) -> Mark:
        """(line, column) of the value that a pointer names; of its closest surroundings if there is none."""
        growth = self._places()
        while pointer and pointer not in growth.values:
            pointer = pointers.parent(pointer)
        value = growth.values.get(pointer, (self.line, 1))
        key = growth.keys.get(pointer, value)
        return value if key[0] == value[0] else key

    def locate(self, violation: Violation) -> Mark:
        """(line, column) of a violation: of the key if the key is what is wrong, of the value otherwise."""
        if isinstance(violation, TextProblem):
            return violation.line, violation.column
        growth = self._places()
        if violation.reason in _KEY_REASONS and violation.pointer in growth.keys:
            return growth.keys[violation.pointer]
        return self.mark(violation.pointer)

    def _places(self) -> Growth:
        if self._growth is None:
            self._growth = _read(self._text, (self.line, 1), marked=True)
        return self._growth


def compose(data: bytes, *, syntax: Syntax | None = None, limits: Limits = DEFAULT_LIMITS) -> list[Document]:
    """Every document of a text; empty ones are left out.  ``syntax`` None: JSON if it is JSON, else YAML."""
    return list(stream(data, syntax=syntax, limits=limits))


def stream(data: bytes, *, syntax: Syntax | None = None, limits: Limits = DEFAULT_LIMITS) -> Iterator[Document]:
    """`compose`, one document at a time."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield _failed("The text is UTF-16; save it as UTF-8.", 1, 0)
        return
    if len(data) > limits.stream_bytes:
        yield _failed(f"The text has {len(data):,} bytes, but {limits.stream_bytes:,} are allowed; split it.", 1, 0)
        return
    data = data.removeprefix(b"\xef\xbb\xbf")
    if syntax == "json" or (syntax is None and data[:64].lstrip()[:1] in (b"{", b"[")):
        document = _document(data, 1, 0, "json", limits)
        if syntax == "json" or (document is not None and not document.problems):
            if document is not None:
                yield document
            return
    index = 0
    for line, chunk in _chunks(data):
        if index == limits.documents:
            yield _failed(f"The text has more than {limits.documents:,} documents; split it.", line, index)
            return
        document = _document(chunk, line, index, "yaml", limits)
        if document is not None:
            yield document
            index += 1


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(first line, bytes) of each document of a YAML stream: '---' or '...' at the start of a line divides."""
    start, line = 0, 1
    for divider in _DIVIDER.finditer(data):
        if divider.start() > start:
            yield line, data[start : divider.start()]
        line += data.count(b"\n", start, divider.start())
        start = divider.start() if divider.group() == b"---" else divider.end()
    if start < len(data):
        yield line, data[start:]


def _document(data: bytes, line: int, index: int, syntax: Syntax, limits: Limits) -> Document | None:
    """One document's bytes, read; None: there is nothing but space and comments."""
    if len(data) > limits.document_bytes:
        message = f"The document has {len(data):,} bytes, but {limits.document_bytes:,} are allowed; split it."
        return _failed(message, line, index, "DocumentTooLarge")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = _offset_place(data[: error.start].decode("utf-8", "replace"), line)
        message = f"The byte 0x{data[error.start]:02X} is not UTF-8; save the file as UTF-8."
        return _failed(message, place[0], index, column=place[1])
    odd = _ODD.search(text)
    if odd is not None and not (syntax == "json" and ord(odd.group()) == 0x7F):
        place = _offset_place(text[: odd.start()], line)
        message = f"The character U+{ord(odd.group()):04X} is not allowed in a document; remove it."
        return _failed(message, place[0], index, column=place[1])
    if syntax == "yaml":
        text = _DIRECTIVE.sub("", text)
        if _BLANK.match(text.removeprefix("---")):
            return None
    source = _Text(text, syntax, limits)
    growth = _read(source, (line, 1))
    value = growth.root
    if not growth.problems and value is None and syntax == "yaml":
        return None
    problems: list[Violation] = list(growth.problems)
    if not isinstance(value, dict):
        message = f"A document is an object with apiVersion, kind, metadata and spec, not {wording.kind_of(value)}."
        at = growth.values.get("", growth.base)
        problems = problems or [_whole(message, at, "FieldValueTypeInvalid")]
        value = {}
    return Document(value, line, index, problems, source)


def _read(text: _Text, base: Mark, *, marked: bool = False) -> Growth:
    """Read fast; if that finds something odd, or places are wanted, read again with care."""
    growth = Growth(text.limits, base)
    reading = yamlreading if text.syntax == "yaml" else jsonreading
    if marked or not reading.read_fast(text.text, growth):
        reading.read(text.text, growth)
    return growth


def _whole(message: str, place: Mark, reason: str = "SyntaxInvalid") -> TextProblem:
    return TextProblem(pointer="", message=message, reason=reason, line=place[0], column=place[1])


def _failed(message: str, line: int, index: int, reason: str = "SyntaxInvalid", column: int = 1) -> Document:
    """A document that cannot be read at all."""
    return Document({}, line, index, [_whole(message, (line, column), reason)], _Text("", "yaml", DEFAULT_LIMITS))


def _offset_place(before: str, line: int) -> Mark:
    return line + before.count("\n"), len(before) - (before.rfind("\n") + 1) + 1
