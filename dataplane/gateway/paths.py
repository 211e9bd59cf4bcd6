"""One canonical path, or a refusal (rule 24): what is matched is exactly what policy and module see.

A path is accepted only if nobody downstream can read it in a second way: no encoded slash or backslash, no empty
or dot segment in any encoding, valid UTF-8 without controls, and no percent sign up to the namespace.  Pure.
Called by `dataplane.gateway.dispatching` before anything is looked up; a refusal becomes a 400.

Source: RFC 3986 sections 2 and 3.3; the request table of the reliability research (CVE-2021-29492, CVE-2026-48710).
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_SEGMENT: Final = rb"(?!\.{1,2}(?:[/;]|\Z))[A-Za-z0-9\-._~!$&'()*+,;=:@]"
is_plain: Final = re.compile(rb"/(?:" + _SEGMENT + rb"+(?:/" + _SEGMENT + rb"+)*/?)?\Z").match
"""Whether a raw path needs no decoding and holds no empty or dot segment: the fast way in."""

_ALLOWED: Final = re.compile(rb"/(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9\-._~!$&'()*+,;=:@/])*\Z")
_HIDDEN: Final = re.compile(r"%[0-9A-Fa-f]{2}")
"""In a decoded segment: what a second decoding would change."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_LITERAL_SEGMENTS: Final = 5
"""``api/v1/modules/{version}/{namespace}``: these are spelled in one way only."""


def refusal(raw: bytes) -> str | None:
    """Why a raw path (as it came, without query) is refused, for people; None: it is canonical."""
    if is_plain(raw):
        return None
    if _ALLOWED.match(raw) is None:
        return "the path holds a character that has to be percent-encoded, or a broken percent-encoding"
    if b"//" in raw:
        return "the path holds an empty segment ('//')"
    if any(b"%" in segment for segment in raw.split(b"/")[1 : _LITERAL_SEGMENTS + 1]) and _addresses_modules(raw):
        return "version and namespace are written without percent-encoding"
    return _decoded_refusal(raw)


def _decoded_refusal(raw: bytes) -> str | None:
    try:
        segments = [unquote_to_bytes(segment).decode("utf-8") for segment in raw.split(b"/")]
    except UnicodeDecodeError:
        return "the path is not valid UTF-8 after decoding"
    for segment in segments:
        if "/" in segment or "\\" in segment:
            return "the path holds an encoded slash or backslash"
        if segment.split(";", 1)[0] in {".", ".."}:
            return "the path holds a dot segment"
        if _CONTROL.search(segment):
            return "the path holds a control character"
        if _HIDDEN.search(segment):
            return "the path is encoded twice"
    return None


def _addresses_modules(raw: bytes) -> bool:
    decoded = unquote_to_bytes(raw)
    return decoded.startswith(b"/api/v1/modules")


def with_other_slash(path: str) -> str:
    """The path with a trailing slash if it has none, and without if it has one (as Starlette redirects)."""
    return path.rstrip("/") if path.endswith("/") else f"{path}/"


def raw_with_other_slash(raw: bytes) -> bytes:
    """The same for the path as it came."""
    return raw.rstrip(b"/") if raw.endswith(b"/") else raw + b"/"
