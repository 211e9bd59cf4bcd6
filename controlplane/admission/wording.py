"""Plain words for what is wrong: from pydantic's errors to sentences that say what is allowed.

Always holds: a message names what was found and what to write instead, and never leaks library words.
Called by `checking`; the sentences end up in ``Status`` causes, condition messages and the terminal.
"""

import difflib
import functools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

_QUOTED: Final = re.compile(r"'([^']*)'")

PATTERNS: Final = {
    r"^sha256:[0-9a-f]{64}$": "must be 'sha256:' and 64 hex digits in lower case",
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$": "must be 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
}
"""What each pattern of the models asks for, in words; a test keeps it complete."""

_KEPT_LENGTH: Final = 64
"""Of a word, and of the words that it may mean, so that what is kept stays small."""

ENTRY_POINT: Final = "must be a Python module, ':' and a class inside it, such as analytics_core:AnalyticsCoreModule"


def shown(value: Any, limit: int = 60) -> str:
    """A found value, short, on one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def kind_of(value: Any) -> str:
    """What sort of value this is, in a reader's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` most likely means; case, hyphens and underscores do not count."""
    words = tuple(known)
    find = _closest if len(word) <= _KEPT_LENGTH and len(words) <= _KEPT_LENGTH else _closest.__wrapped__
    return find(_fold(word), words)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or nothing."""
    found = closest(word, known)
    return f" Did you mean '{found}'?" if found is not None else ""


def listed(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *head, last = words
    return f"{', '.join(head)} or {last}" if head else last


def sentence(error: dict[str, Any]) -> tuple[str, str]:
    """(message, reason) for one of pydantic's errors."""
    kind, found, context = error["type"], error.get("input"), error.get("ctx", {})
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(found, context)
    return f"is not allowed here: {error['msg'].lower()}; found {shown(found)}.", "FieldValueInvalid"


def _fold(word: str) -> str:
    return word.casefold().replace("_", "").replace("-", "")


@functools.lru_cache(128)
def _closest(folded: str, known: tuple[str, ...]) -> str | None:
    """Kept: it takes a millisecond, and who misspells a field in one manifest of many does so in others."""
    meant: dict[str, str] = {}
    for candidate in known:
        meant.setdefault(_fold(candidate), candidate)
    if folded in meant:
        return meant[folded]
    found = difflib.get_close_matches(folded[:64], meant, n=1, cutoff=0.6)
    return meant[found[0]] if found else None


def _expected(what: str) -> Callable[[Any, dict[str, Any]], tuple[str, str]]:
    def write(found: Any, _: dict[str, Any]) -> tuple[str, str]:
        hint = ""
        if what == "text" and isinstance(found, int | float):
            hint = f'; put it in quotes: "{shown(found)}"'
        elif what == "true or false" and isinstance(found, str):
            hint = "; write it without quotes, and not as yes, no, on or off"
        elif "number" in what and isinstance(found, str):
            hint = "; write it without quotes"
        return f"must be {what}, but {shown(found)} is {kind_of(found)}{hint}.", "FieldValueTypeInvalid"

    return write


def _choice(found: Any, context: dict[str, Any]) -> tuple[str, str]:
    allowed = _QUOTED.findall(str(context.get("expected", "")))
    hint = suggestion(found, allowed) if isinstance(found, str) else ""
    return f"must be {listed(allowed)}, but is {shown(found)}.{hint}", "FieldValueNotSupported"


def _pattern(found: Any, context: dict[str, Any]) -> tuple[str, str]:
    pattern = str(context.get("pattern", ""))
    words = PATTERNS.get(pattern) or (ENTRY_POINT if ":" in pattern else f"must match the pattern {pattern}")
    return f"{words}, but is {shown(found)}.", "FieldValueInvalid"


def _bound(phrase: str, key: str) -> Callable[[Any, dict[str, Any]], tuple[str, str]]:
    def write(found: Any, context: dict[str, Any]) -> tuple[str, str]:
        limit = context.get(key)
        number = int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        return f"must {phrase.format(number)}, but is {shown(found)}.", "FieldValueInvalid"

    return write


def _length(found: Any, context: dict[str, Any]) -> tuple[str, str]:
    size = len(found) if isinstance(found, str | list) else 0
    if "max_length" in context:
        return f"must have at most {context['max_length']} characters, but has {size}.", "FieldValueInvalid"
    return "must not be empty.", "FieldValueInvalid"


_WRITERS: Final[dict[str, Callable[[Any, dict[str, Any]], tuple[str, str]]]] = {
    "missing": lambda _found, _context: ("is required, but missing.", "FieldValueRequired"),
    "string_type": _expected("text"),
    "bool_type": _expected("true or false"),
    "int_type": _expected("a whole number"),
    "int_from_float": _expected("a whole number"),
    "float_type": _expected("a number"),
    "list_type": _expected("a list"),
    "dict_type": _expected("an object (keys and values)"),
    "model_type": _expected("an object (keys and values)"),
    "model_attributes_type": _expected("an object (keys and values)"),
    "datetime_type": _expected("a point in time such as 2030-01-31T12:00:00Z"),
    "datetime_parsing": _expected("a point in time such as 2030-01-31T12:00:00Z"),
    "datetime_from_date_parsing": _expected("a point in time such as 2030-01-31T12:00:00Z"),
    "timezone_aware": _expected("a point in time with its zone, such as 2030-01-31T12:00:00Z"),
    "enum": _choice,
    "literal_error": _choice,
    "string_pattern_mismatch": _pattern,
    "string_too_long": _length,
    "string_too_short": _length,
    "greater_than": _bound("be greater than {}", "gt"),
    "greater_than_equal": _bound("be at least {}", "ge"),
    "less_than": _bound("be less than {}", "lt"),
    "less_than_equal": _bound("be at most {}", "le"),
}
