"""Whether two path templates catch a request in common, with an example of one, and whether one catches all.

Templates are regular languages, so this is answered exactly: both are run side by side, character by character, over
every path that a worker lets in (no empty and no dot segments).  Templates without a ``path`` parameter meet segment
by segment.  A converter that nobody here knows counts as ``path``.  What always holds: an answer costs a bounded
number of steps; where that is not enough (only a template written for the purpose gets there), they are said to meet,
without an example.

Pure.  Called by `controlplane.admission.shadowing`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from schemas.paths import PARAMETER

WORK: Final = 30_000
"""How many states are looked at for one answer, each as often as it is looked at: some 20 ms."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """How the second of two templates stands to the first."""

    example: str
    """A path that both catch; empty: there may be one, but none was found in time."""
    whole: bool
    """Whether the second catches every path of the first."""


States: TypeAlias = frozenset[int]
Takes: TypeAlias = Callable[[str], bool]

_DIGITS: Final = "1234567890"
_HEX: Final = "abcdefABCDEF"
_OTHERS: Final = "xyzuvwtsrq"
_FRESH, _DOT, _DOTS, _INSIDE = range(4)
"""Where in a segment a path is: at its begin, behind ``.``, behind ``..``, anywhere else."""


def _text(char: str) -> bool:
    return char != "/"


def _digit(char: str) -> bool:
    return char in _DIGITS


def _hex(char: str) -> bool:
    return char in _DIGITS or char in _HEX


def _any(_: str) -> bool:
    return True


class _Machine:
    """A template as an automaton, begun at state 0."""

    def __init__(self, template: str) -> None:
        self._moves: list[list[tuple[Takes | str, int]]] = [[]]
        self._skips: list[list[int]] = [[]]
        end = 0
        for found in PARAMETER.finditer(template):
            self._add_text(template[end : found.start()])
            self._add_parameter(found.group(2) or "str")
            end = found.end()
        self._add_text(template[end:])
        self._last = len(self._moves) - 1
        self.start = self._reached([0])

    def ended(self, states: States) -> bool:
        """Whether a path may end here."""
        return self._last in states

    def step(self, states: States, char: str) -> States:
        """Where a character leads."""
        return self._reached(
            target
            for state in states
            for takes, target in self._moves[state]
            if (takes == char if isinstance(takes, str) else takes(char))
        )

    def letters(self, states: States) -> set[str]:
        """The characters that are asked for by themselves."""
        return {takes for state in states for takes, _ in self._moves[state] if isinstance(takes, str)}

    def _state(self) -> int:
        self._moves.append([])
        self._skips.append([])
        return len(self._moves) - 1

    def _move(self, takes: Takes | str, *, loops: bool = False) -> None:
        here, there = len(self._moves) - 1, self._state()
        self._moves[here].append((takes, there))
        if loops:
            self._moves[there].append((takes, there))

    def _add_text(self, text: str) -> None:
        for char in text:
            self._move(char)

    def _add_parameter(self, converter: str) -> None:
        if converter == "str":
            self._move(_text, loops=True)
        elif converter == "int":
            self._move(_digit, loops=True)
        elif converter == "float":
            self._move(_digit, loops=True)
            whole = len(self._moves) - 1
            self._move(".")
            self._move(_digit, loops=True)
            self._join(whole)
        elif converter == "uuid":
            for length in (8, 4, 4, 4, 12):
                if length != 8:
                    before = len(self._moves) - 1
                    self._move("-")
                    self._skips[before].append(len(self._moves) - 1)
                for _ in range(length):
                    self._move(_hex)
        else:
            start = len(self._moves) - 1
            self._move(_any, loops=True)
            self._join(start)

    def _join(self, earlier: int) -> None:
        """A state that is reached from the last one and from an earlier one."""
        last, joined = len(self._moves) - 1, self._state()
        self._skips[last].append(joined)
        self._skips[earlier].append(joined)

    def _reached(self, states: Iterable[int]) -> States:
        found: set[int] = set()
        todo = list(states)
        while todo:
            state = todo.pop()
            if state not in found:
                found.add(state)
                todo.extend(self._skips[state])
        return frozenset(found)


def meet(first: str, second: str) -> Meeting | None:
    """How the template ``second`` stands to ``first``; None: no request is caught by both."""
    if _spans(first) or _spans(second):
        return _compared(first, second)
    ours, theirs = first.split("/"), second.split("/")
    if len(ours) != len(theirs):
        return None
    example, whole = [], True
    for one, other in zip(ours, theirs, strict=True):
        met = _compared(one, other)
        if met is None:
            return None
        example.append(met.example)
        whole = whole and met.whole
    return Meeting("/".join(example), whole)


def _spans(template: str) -> bool:
    """Whether a parameter may catch a slash."""
    return any(found.group(2) not in (None, "str", "int", "float", "uuid") for found in PARAMETER.finditer(template))


@lru_cache(maxsize=8192)
def _compared(first: str, second: str) -> Meeting | None:
    if "{" not in first and "{" not in second:
        return Meeting(first, whole=True) if first == second else None
    return _Comparison(_Machine(first), _Machine(second), _INSIDE if first.startswith("/") else _FRESH).run()


class _Comparison:
    """Both machines side by side, over all paths, the shortest first."""

    def __init__(self, first: _Machine, second: _Machine, place: int) -> None:
        self._first = first
        self._second = second
        self._place = place
        self._example: str | None = None
        self._whole = True

    def run(self) -> Meeting | None:
        begin = (self._first.start, self._second.start, self._place)
        seen, todo = {begin}, deque([(begin, "")])
        work = 0
        while todo and (self._example is None or self._whole):
            (ours, theirs, place), path = todo.popleft()
            if place not in (_DOT, _DOTS) and self._first.ended(ours):
                self._judge(theirs, path)
            for char in self._letters(ours, theirs):
                work += len(ours) + len(theirs)
                if work > WORK:
                    return Meeting(self._example or "", whole=False)
                following = self._following(ours, theirs, place, char)
                if following is not None and following not in seen:
                    seen.add(following)
                    todo.append((following, path + char))
        return None if self._example is None else Meeting(self._example, self._whole)

    def _judge(self, theirs: States, path: str) -> None:
        if not self._second.ended(theirs):
            self._whole = False
        elif self._example is None:
            self._example = path

    def _following(self, ours: States, theirs: States, place: int, char: str) -> tuple[States, States, int] | None:
        moved = _moved(place, char)
        if moved is None or not (ours := self._first.step(ours, char)):
            return None
        theirs = self._second.step(theirs, char)
        if not theirs:
            self._whole = False
            return None
        return ours, theirs, moved

    def _letters(self, ours: States, theirs: States) -> Iterator[str]:
        """Every character that makes a difference here, and of the rest one of each sort; plain ones first."""
        named = self._first.letters(ours) | self._second.letters(theirs)
        sorts = (next((char for char in sort if char not in named), "") for sort in (_OTHERS, _DIGITS, _HEX, *"-./"))
        others = [char for char in sorts if char]
        yield from others[:2]
        yield from sorted(named)
        yield from others[2:]


def _moved(place: int, char: str) -> int | None:
    """The place behind a character; None: no worker lets such a path in."""
    if char == "/":
        return _FRESH if place == _INSIDE else None
    if place in (_DOT, _DOTS) and char == ";":
        return None
    if char == ".":
        return {_FRESH: _DOT, _DOT: _DOTS}.get(place, _INSIDE)
    return _INSIDE
