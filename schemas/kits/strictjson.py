"""JSON that can be read in one way only, or not at all (RFC 8259 within the bounds of I-JSON, RFC 7493).

Always holds: a member stands once in its object, every number is one that others can hold, and no depth of nesting ends
the reader.  For texts whose size is bounded before: bodies of requests and columns of rows.
"""

import collections
import json
from typing import Any, Final

NUMBER_MAX: Final = 60
"""Characters of a number; longer ones are text by mistake."""


def decode(text: str) -> Any:
    """The value of a text; ValueError says what is wrong with it."""
    try:
        return json.loads(
            text, object_pairs_hook=_members, parse_constant=_constant, parse_int=_integer, parse_float=_fraction
        )
    except RecursionError:
        raise ValueError("objects and lists are nested too deep") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        ((double, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the member {double[:80]!r} stands twice in one object")
    return members


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _integer(text: str) -> int:
    return int(_short(text))


def _fraction(text: str) -> float:
    value = float(_short(text))
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"the number {text} is too big to hold")
    return value


def _short(text: str) -> str:
    if len(text) > NUMBER_MAX:
        raise ValueError(f"the number {text[:20]}… has more than {NUMBER_MAX} characters")
    return text
