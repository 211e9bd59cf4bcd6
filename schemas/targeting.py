"""What a flag's targeting may be: JsonLogic that is small, ends soon, and does nothing but answer.

Pure.  Admission refuses what does not pass, a worker closes the flag: both ask here, so that a document from an older
control plane cannot bring in what a newer one would refuse.  Not allowed: ``log`` (it writes to standard output) and
``reduce`` (its accumulator can double with every item).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from schemas.meta import Json

MAX_DEPTH: Final = 16
"""Of objects and lists inside each other."""
MAX_NODES: Final = 2_000
"""Operators, lists and values together."""

LOOPS: Final = frozenset({"map", "filter", "all", "some", "none"})
"""Operators that evaluate something for every item of a list; not inside each other."""
OPERATORS: Final = LOOPS | frozenset(
    {
        *("var", "missing", "missing_some"),
        *("if", "?:", "and", "or", "!", "!!"),
        *("==", "===", "!=", "!==", "<", "<=", ">", ">="),
        *("+", "-", "*", "/", "%", "min", "max"),
        *("in", "cat", "substr", "merge"),
        *("fractional", "sem_ver", "starts_with", "ends_with"),
    }
)
"""Of JsonLogic and flagd."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a targeting."""

    path: tuple[str | int, ...]
    """Keys and indexes from the targeting down to it."""
    message: str
    """The end of a sentence that begins with the place."""
    word: str = ""
    """The operator that is not known, for suggestions."""


def faults(targeting: Json) -> Iterator[Fault]:
    """Everything that is wrong; at most one of size, then one for each place."""
    if not targeting:
        return
    count = _size(targeting)
    if count is None:
        yield Fault((), f"must be at most {MAX_DEPTH} deep and have at most {MAX_NODES:,} operators and values")
        return
    if len(targeting) != 1:
        yield Fault((), f"must have one operator, but has {len(targeting)}: {', '.join(sorted(targeting)[:5])}")
        return
    yield from _faults(targeting, (), looped=False)


def moves_with_time(targeting: Json) -> bool:
    """Whether the answer may change from one second to the next: it reads ``$flagd.timestamp``, or may."""
    return any(_may_read_time(argument) for argument in _variables(targeting))


def _faults(rule: Any, path: tuple[str | int, ...], *, looped: bool) -> Iterator[Fault]:
    if isinstance(rule, list):
        for index, item in enumerate(rule):
            yield from _faults(item, (*path, index), looped=looped)
        return
    if not isinstance(rule, dict) or len(rule) != 1:
        return  # a literal
    ((word, arguments),) = rule.items()
    here = (*path, word)
    if word not in OPERATORS:
        yield Fault(here, f"is no operator that flags may use: '{word}'", word)
        return
    if word not in LOOPS:
        yield from _faults(arguments, here, looped=looped)
        return
    if looped:
        yield Fault(here, f"must not loop inside another loop ({', '.join(sorted(LOOPS))})")
        return
    listed = arguments if isinstance(arguments, list) else [arguments]
    for index, item in enumerate(listed):
        yield from _faults(item, (*here, index), looped=index > 0)


def _size(targeting: Any) -> int | None:
    """How many nodes there are; None: too many, or too deep."""
    count, level, depth = 0, [targeting], 0
    while level:
        depth += 1
        below: list[Any] = []
        for value in level:
            count += 1
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if count > MAX_NODES or depth > MAX_DEPTH + 1:
            return None
        level = below
    return count


def _variables(rule: Any) -> Iterator[Any]:
    """The arguments of every operator that reads the whole data; the body of a loop reads only its item."""
    if isinstance(rule, list):
        for item in rule:
            yield from _variables(item)
    elif isinstance(rule, dict):
        for word, arguments in rule.items():
            if word in ("var", "missing", "missing_some"):
                yield arguments
            yield from _variables(arguments[:1] if word in LOOPS and isinstance(arguments, list) else arguments)


def _may_read_time(argument: Any) -> bool:
    if isinstance(argument, dict):
        return True  # computed: nobody knows what it will name
    if isinstance(argument, list):
        return any(_may_read_time(item) for item in argument[:1]) or any(isinstance(item, dict) for item in argument)
    return isinstance(argument, str) and (argument == "" or argument.startswith("$flagd"))
