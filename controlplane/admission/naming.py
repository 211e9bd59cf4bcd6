"""Names, labels and words: what may be written, and what to write instead.

Always holds: two names that look alike are told apart by naming the odd character.  Pure.  Called by the rules
of each kind (`ruling`, `modulerules`); the one spelling itself is `schemas.names`.
"""

import re
import unicodedata
from typing import Final

from schemas import names

_LABEL_PART: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_WORD: Final = re.compile(r"[^\s\x00-\x1f\x7f]+")
_NOT_NAME: Final = re.compile(r"[^a-z0-9]+")

WORD_MAX: Final = 128


def name_fault(text: str) -> str | None:
    """Why ``text`` (already in hyphens) is no object name, as the end of a sentence; None: it is one."""
    if names.is_dns_label(text):
        return None
    if not text:
        return "must not be empty"
    if not text.isascii():
        return f"must be plain ASCII, but contains {_odd_one(text)}{_try(text)}"
    if len(text) > names.LABEL_MAX:
        return f"must have at most {names.LABEL_MAX} characters, but has {len(text)}"
    rule = "must be 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"
    if "." in text:
        rule = "must not contain dots"
    elif text != text.lower():
        rule = "must be in lower case"
    return f"{rule}, but is '{text}'{_try(text)}"


def label_key_fault(key: str) -> str | None:
    """Why ``key`` is no label or annotation key; None: it is one (Kubernetes syntax, ``prefix/name``)."""
    prefix, slash, name = key.rpartition("/")
    if slash and not all(names.is_dns_label(part) for part in prefix.split(".")):
        return f"the part before '/' must be a DNS name, but is '{prefix[:80]}'"
    if not _LABEL_PART.fullmatch(name):
        return f"must be 1 to 63 of letters, digits, '-', '_' and '.', alphanumeric at both ends, but is '{name[:80]}'"
    return None


def label_value_fault(value: str) -> str | None:
    """Why ``value`` is no label value; None: it is one (Kubernetes syntax; empty is allowed)."""
    if not value or _LABEL_PART.fullmatch(value):
        return None
    return (
        "must be empty, or up to 63 of letters, digits, '-', '_' and '.', alphanumeric at both ends, "
        f"but is '{value[:80]}'"
    )


def word_fault(word: str) -> str | None:
    """Why ``word`` is no permission, role or flag; None: it is one."""
    if not word:
        return "must not be empty"
    if len(word) > WORD_MAX:
        return f"must have at most {WORD_MAX} characters, but has {len(word)}"
    return None if _WORD.fullmatch(word) else f"must not contain spaces or control characters, but is {word!r}"


def _odd_one(text: str) -> str:
    char = next(char for char in text if not char.isascii())
    return f"'{char}' (U+{ord(char):04X} {unicodedata.name(char, 'no name')})"


def _try(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    proposal = _NOT_NAME.sub("-", plain).strip("-")[: names.LABEL_MAX].strip("-")
    return f"; try '{proposal}'" if proposal else ""
