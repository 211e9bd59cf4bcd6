"""Base64url and JSON with one spelling each: what two readers could read differently is refused.

Pure.  ValueError for everything that is wrong.
"""

import base64
import json
import math
import re
from typing import Any, Final

DEPTH: Final = 32
"""How many objects and arrays may lie in each other."""
_is_base64url: Final = re.compile(rb"[A-Za-z0-9_-]*").fullmatch
_LAST: Final = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}
"""What the last character of a segment may be whose length is not a multiple of four: its unused bits are zero."""
_PADDING: Final = {0: b"", 2: b"==", 3: b"="}


def decoded(segment: bytes) -> bytes:
    """The bytes of a base64url segment without padding, canonically written (RFC 7515 section 2, RFC 4648 3.5)."""
    if _is_base64url(segment) is None:
        raise ValueError("not base64url")
    return trusted(segment)


def trusted(segment: bytes) -> bytes:
    """The same for a segment whose alphabet was checked already."""
    rest = len(segment) % 4
    if rest == 1 or (rest and segment[-1] not in _LAST[rest]):
        raise ValueError("not canonical base64url")
    return base64.urlsafe_b64decode(segment + _PADDING[rest])


def encoded(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def parsed(raw: bytes) -> dict[str, Any]:
    """A JSON object: UTF-8, each name once, finite numbers, no lone surrogates, at most `DEPTH` levels."""
    try:
        value = _decode(raw.decode("utf-8"))
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate
        if raw.count(b"[") + raw.count(b"{") > DEPTH and _is_deep(value):
            raise RecursionError
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(each, dict | list) for each in level)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number without end")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_decode: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant).decode
