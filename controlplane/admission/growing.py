"""A document that grows from the events of a reader, within limits, with the place of everything in it.

Always holds: no recursion, so depth costs nothing but its limit; a key given twice is a problem and the first one
stays; work stops at the first limit that is passed.  Called by `yamlreading` and `jsonreading`, which know
syntax; `composing` makes documents of what comes out.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn, TypeAlias

from controlplane.admission import bounds, pointers
from schemas.problems import Violation

Mark: TypeAlias = tuple[int, int]
"""(line, column), both from 1."""

MAX_PROBLEMS: Final = 50
"""Told of one document."""

DOUBT: Final = object()
"""What a fast reader answers in place of a value: something may be wrong, or is unusual; read with care."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may be, and how many a stream may hold."""

    document_bytes: int = bounds.MAX_BYTES
    depth: int = bounds.MAX_DEPTH
    nodes: int = bounds.MAX_NODES
    documents: int = 100_000
    stream_bytes: int = 64 * 1024 * 1024
    list_bytes: int = 16 * 1024 * 1024
    """Of a document that is a ``List`` of others, each of which `validating` bounds again."""

    def for_lists(self) -> "Limits":
        """The limits of a ``List``: two levels more, and as much text and as many nodes as its items may have."""
        nodes = self.nodes * max(self.list_bytes // self.document_bytes, 1)
        return replace(self, document_bytes=self.list_bytes, depth=self.depth + 2, nodes=nodes)


class TextProblem(Violation):
    """Something wrong with the text of a document, at an exact place."""

    line: int
    column: int
    reason: str = "SyntaxInvalid"


class Stop(Exception):  # noqa: N818 (control flow, not an error)
    """Nothing more can be read of this document."""


@dataclass(slots=True)
class _Level:
    """One open object (``key`` is the next value's) or list, which stands at ``pointer``."""

    container: dict[str, Any] | list[Any]
    pointer: str
    key: str | None = None


@dataclass(slots=True)
class Growth:
    """A document in the making: `key`, `leaf`, `enter` and `leave` in reading order."""

    limits: Limits
    base: Mark = (1, 1)
    """Where the text begins in its file."""
    root: Any = None
    problems: list[TextProblem] = field(default_factory=list)
    values: dict[str, Mark] = field(default_factory=dict)
    keys: dict[str, Mark] = field(default_factory=dict)
    _levels: list[_Level] = field(default_factory=list)
    _nodes: int = 0

    @property
    def wants_key(self) -> bool:
        """Whether what comes next is a key of an object."""
        return bool(self._levels) and isinstance(self._levels[-1].container, dict) and self._levels[-1].key is None

    def pointer(self) -> str:
        """Where the next value goes."""
        if not self._levels:
            return ""
        level = self._levels[-1]
        if isinstance(level.container, list):
            return f"{level.pointer}/{len(level.container)}"
        return level.pointer if level.key is None else f"{level.pointer}/{pointers.escape(level.key)}"

    def key(self, text: str, line: int, column: int) -> None:
        """A key of the innermost object; its value comes next."""
        self._count(line, column)
        level = self._levels[-1]
        level.key = text
        if text in level.container:
            first = self.keys.get(self.pointer())
            where = f"; it is already at line {first[0]}, column {first[1]}" if first else ""
            self.problem(f"The key '{text[:80]}' is given twice{where}. Keep one.", line, column, "FieldValueDuplicate")
        else:
            self.keys[self.pointer()] = (line, column)

    def leaf(self, value: Any, line: int, column: int) -> None:
        """A text, number, true, false or null."""
        self._count(line, column)
        self._place(value, line, column)

    def enter(self, container: dict[str, Any] | list[Any], line: int, column: int) -> None:
        """An object or list begins."""
        self._count(line, column)
        if len(self._levels) >= self.limits.depth:
            self.stop(
                f"Objects and lists are nested deeper than {self.limits.depth} levels; flatten the document.",
                line,
                column,
                "DocumentTooDeep",
            )
        pointer = self.pointer()
        self._place(container, line, column)
        self._levels.append(_Level(container, pointer))

    def leave(self) -> None:
        """The innermost object or list ends."""
        self._levels.pop()
        if self._levels:
            self._levels[-1].key = None

    def problem(self, message: str, line: int, column: int, reason: str = "SyntaxInvalid") -> None:
        """Note a problem at a place; reading goes on."""
        if len(self.problems) < MAX_PROBLEMS:
            pointer = self.pointer()
            self.problems.append(TextProblem(pointer=pointer, message=message, reason=reason, line=line, column=column))

    def stop(self, message: str, line: int, column: int, reason: str = "SyntaxInvalid") -> NoReturn:
        """Note a problem after which nothing can be read.  Raises `Stop`, always."""
        self.problem(message, line, column, reason)
        raise Stop

    def _count(self, line: int, column: int) -> None:
        self._nodes += 1
        if self._nodes > self.limits.nodes:
            self.stop(
                f"The document has more than {self.limits.nodes:,} keys and values; split it, or move data out of it.",
                line,
                column,
                "DocumentTooLarge",
            )

    def _place(self, value: Any, line: int, column: int) -> None:
        if not self._levels:
            self.root = value
            self.values[""] = (line, column)
            return
        level = self._levels[-1]
        self.values.setdefault(self.pointer(), (line, column))
        if isinstance(level.container, list):
            level.container.append(value)
            return
        assert level.key is not None, "a value in an object follows its key"
        level.container.setdefault(level.key, value)
        if not isinstance(value, dict | list):
            level.key = None
