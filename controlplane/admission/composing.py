"""Text to documents: YAML streams and JSON, each document on its own, each knowing where everything stands.

Always holds: nothing is raised for bad input; a broken document has problems and the others are read all the
same; time and memory are linear in the text.  A document is read fast; with care, place by place (``line:column``),
only if that leaves a doubt or somebody asks where something stands.  Called by the command line, the API and discovery;
`validating` follows.
"""

import functools
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias

from controlplane.admission import jsonreading, pointers, wording
from controlplane.admission.growing import DOUBT, Growth, Limits, Mark, TextProblem
from schemas.meta import Json
from schemas.problems import Violation

Syntax: TypeAlias = Literal["yaml", "json"]

DEFAULT_LIMITS: Final = Limits()

_DIVIDER: Final = re.compile(rb"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
BOM: Final = b"\xef\xbb\xbf"
UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_PLAIN: Final = b"\t\n\r" + bytes(range(0x20, 0x7F))
_BLANK: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z))*\Z")
_DIRECTIVE: Final = re.compile(r"^%YAML[ \t]+1\.[12][ \t]*(?:#.*)?\r?$", re.MULTILINE)
_LIST: Final = re.compile(rb"""(?:^|[{,])[ \t"']*kind["']?[ \t]*:[ \t]*["']?[A-Za-z]*List\b""", re.MULTILINE)
"""How a list of objects says that it is one, as ``get -o yaml`` and ``-o json`` write it."""
_KEY_REASONS: Final = frozenset({"FieldValueForbidden", "FieldValueDuplicate"})


def _reading(syntax: Syntax) -> ModuleType:
    """Who knows a syntax: ``read_fast`` for what has nothing wrong with it, ``read`` for places and problems."""
    if syntax == "json":
        return jsonreading
    from controlplane.admission import yamlreading  # late: libyaml's wrapping is read only where YAML is

    return yamlreading


class Text:
    """What a document was read from, kept to find places in it."""

    __slots__ = ("base", "growth", "limits", "syntax", "text")

    def __init__(self, text: str, syntax: Syntax, limits: Limits, base: Mark) -> None:
        self.text, self.syntax, self.limits, self.base = text, syntax, limits, base
        self.growth: Growth | None = None

    def read(self) -> tuple[Any, list[Violation]]:
        """(what it says, what is wrong with it); with care only if reading fast leaves a doubt."""
        value = _reading(self.syntax).read_fast(self.text, self.limits)
        if value is not DOUBT:
            return value, []
        growth = self.places()
        return growth.root, list(growth.problems)

    def places(self) -> Growth:
        """The document with the place of everything in it."""
        if self.growth is None:
            self.growth = Growth(self.limits, self.base)
            _reading(self.syntax).read(self.text, self.growth)
        return self.growth


class Document:
    """One document of a text, or one item of a ``List`` in it."""

    __slots__ = ("index", "line", "problems", "source", "value", "within")

    def __init__(
        self, value: Json, line: int, index: int, problems: list[Violation], source: Text, within: str = ""
    ) -> None:
        """``line``: where it begins in its file, from 1; ``index``: which of the file's documents, from 0.

        ``value`` is of use only without ``problems``; ``within``: where it stands in its ``source``.
        """
        self.value, self.line, self.index, self.problems = value, line, index, problems
        self.source, self.within = source, within

    def __repr__(self) -> str:
        return f"Document(index={self.index}, line={self.line}, problems={len(self.problems)})"

    def mark(self, pointer: str) -> Mark:
        """(line, column) of the value that a pointer names; of its closest surroundings if there is none."""
        for problem in self.problems:
            if isinstance(problem, TextProblem) and problem.pointer == pointer:
                return problem.line, problem.column
        growth, pointer = self.source.places(), self.within + pointer
        while pointer and pointer not in growth.values:
            pointer = pointers.parent(pointer)
        value = growth.values.get(pointer, (self.line, 1))
        key = growth.keys.get(pointer, value)
        return value if key[0] == value[0] else key

    def locate(self, violation: Violation) -> Mark:
        """(line, column) of a violation: of the key if the key is what is wrong, of the value otherwise."""
        if isinstance(violation, TextProblem):
            return violation.line, violation.column
        keys = self.source.places().keys
        if violation.reason in _KEY_REASONS and self.within + violation.pointer in keys:
            return keys[self.within + violation.pointer]
        return self.mark(violation.pointer)


def compose(
    data: bytes, *, syntax: Syntax | None = None, limits: Limits = DEFAULT_LIMITS, line: int = 1
) -> list[Document]:
    """Every document of a text; empty ones are left out.  ``syntax`` None: JSON if it is JSON, else YAML.

    ``line``: the number of the first line, for a piece of a text (`cutting`).
    """
    return list(stream(data, syntax=syntax, limits=limits, line=line))


def stream(
    data: bytes, *, syntax: Syntax | None = None, limits: Limits = DEFAULT_LIMITS, line: int = 1
) -> Iterator[Document]:
    """`compose`, one document at a time."""
    if data.startswith(UTF16):
        yield _failed("The text is UTF-16; save it as UTF-8.", 1, 0)
        return
    if len(data) > limits.stream_bytes:
        yield _failed(f"The text has {len(data):,} bytes, but {limits.stream_bytes:,} are allowed; split it.", 1, 0)
        return
    data = data.removeprefix(BOM)
    if syntax == "json" or (syntax is None and may_be_json(data)):
        found = _documents(data, 1, 0, "json", limits)
        if syntax == "json" or not any(document.problems for document in found):
            yield from found
            return
    index = 0
    for first, chunk in _chunks(data, line):
        if index >= limits.documents:
            yield _failed(f"The text has more than {limits.documents:,} documents; split it.", first, index)
            return
        found = _documents(chunk, first, index, "yaml", limits)
        yield from found
        index += len(found)


def may_be_json(data: bytes) -> bool:
    """Whether a text, without its byte order mark, is tried as JSON first."""
    return data[:64].lstrip()[:1] in (b"{", b"[")


def _chunks(data: bytes, line: int) -> Iterator[tuple[int, bytes]]:
    """(first line, bytes) of each document of a YAML stream: '---' or '...' at the start of a line divides."""
    start = 0
    for divider in _DIVIDER.finditer(data):
        if divider.start() > start:
            yield line, data[start : divider.start()]
        line += data.count(b"\n", start, divider.start())
        start = divider.start() if divider.group() == b"---" else divider.end()
    if start < len(data):
        yield line, data[start:]


def _documents(data: bytes, line: int, index: int, syntax: Syntax, limits: Limits) -> list[Document]:
    """One document's bytes, read: none if there is nothing but space and comments, several if it is a ``List``."""
    listed = b"List" in data and any(_LIST.search(end) for end in (data[:1024], data[-1024:]))
    bounds = limits.for_lists() if listed else limits
    if len(data) > bounds.document_bytes:
        message = f"The document has {len(data):,} bytes, but {bounds.document_bytes:,} are allowed; split it."
        return [_failed(message, line, index, "DocumentTooLarge")]
    text = _decoded(data, line, index, syntax)
    if isinstance(text, Document):
        return [text]
    source = Text(text, syntax, bounds, (line, 1))
    if syntax == "yaml" and "%YAML" in text:
        source.text = _DIRECTIVE.sub("", text)
    value, problems = source.read()
    if value is None and syntax == "yaml" and (not problems or _BLANK.match(source.text.removeprefix("---"))):
        return []
    if not isinstance(value, dict):
        message = f"A document is an object with apiVersion, kind, metadata and spec, not {wording.kind_of(value)}."
        at = source.places().values.get("", source.base)
        problems = problems or [_whole(message, at, "FieldValueTypeInvalid")]
        value = {}
    if listed and not problems and isinstance(value.get("items"), list):
        return list(_items(value["items"], index, source))
    return [Document(value, line, index, problems, source)]


def _items(items: list[Any], index: int, source: Text) -> Iterator[Document]:
    """The items of a ``List``, each as a document of its own."""
    for place, item in enumerate(items):
        within = f"/items/{place}"
        problems: list[Violation] = []
        if not isinstance(item, dict):
            message = (
                f"An item of a List is an object with apiVersion, kind, metadata and spec, not {wording.kind_of(item)}."
            )
            problems.append(_whole(message, source.places().values[within], "FieldValueTypeInvalid"))
        value = item if isinstance(item, dict) else {}
        yield Document(value, source.base[0], index + place, problems, source, within)


@functools.cache
def _odd() -> re.Pattern[str]:
    """What YAML takes for no character of a text; made when the first text is more than ASCII, for it takes a while."""
    return re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def _decoded(data: bytes, line: int, index: int, syntax: Syntax) -> str | Document:
    """The text, or a document that says which byte or character is wrong with it."""
    if not data.translate(None, _PLAIN):
        return data.decode("ascii")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = _offset_place(data[: error.start].decode("utf-8", "replace"), line)
        message = f"The byte 0x{data[error.start]:02X} is not UTF-8; save the file as UTF-8."
        return _failed(message, place[0], index, column=place[1])
    odd = _odd().search(text)
    if odd is None or (syntax == "json" and ord(odd.group()) == 0x7F):
        return text
    place = _offset_place(text[: odd.start()], line)
    message = f"The character U+{ord(odd.group()):04X} is not allowed in a document; remove it."
    return _failed(message, place[0], index, column=place[1])


def _whole(message: str, place: Mark, reason: str = "SyntaxInvalid") -> TextProblem:
    return TextProblem(pointer="", message=message, reason=reason, line=place[0], column=place[1])


def _failed(message: str, line: int, index: int, reason: str = "SyntaxInvalid", column: int = 1) -> Document:
    """A document that cannot be read at all."""
    source = Text("", "yaml", DEFAULT_LIMITS, (line, 1))
    return Document({}, line, index, [_whole(message, (line, column), reason)], source)


def _offset_place(before: str, line: int) -> Mark:
    return line + before.count("\n"), len(before) - (before.rfind("\n") + 1) + 1
