"""What an answer may hold on the wire: its status, its header fields and its length, whatever a module says.

Pure but for what it remembers of header fields that it has seen.  Called by `dataplane.gateway.limiting` before the
first byte of an answer leaves.

Sources: RFC 9110 sections 5.5, 5.6.2 and 8.6 and RFC 9112 section 6.
"""

import re
from typing import Any, Final

from starlette.types import Message

_PLAIN, _CHUNKED = -1, -2
_KNOWN_SIZE: Final = 4_096
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_known: dict[tuple[bytes, bytes], int] = {}
"""Header fields that were found well-formed: the length that one declares, or what else it is."""
_FINAL: Final = range(200, 600)
"""What an answer's status may be."""
_USUAL: Final = frozenset(_FINAL) - {204, 304}
"""Those of an answer with a body."""
_is_token: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_has_control: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
is_length: Final = re.compile(rb"[0-9]{1,18}").fullmatch


class Illegal(ValueError):  # noqa: N818 - named for what it is, as in the rest of the house
    """An answer that may not be sent; says why, for the module's operator."""


def length_of(message: Message) -> int:
    """The length that an answer's start declares, or -1; Illegal if the start must not be sent.

    An answer that has no body by its status (204, 304) declares 0.
    """
    status = message.get("status")
    headers = message.get("headers")
    if headers.__class__ is not list or status.__class__ is not int or status not in _USUAL:
        return _length_of_another(message)
    length = _PLAIN
    try:
        for pair in headers:
            found = _known.get(pair)
            if found is None:
                found = _examined(pair)
            if found != _PLAIN:
                length = _joined(length, found)
    except TypeError:  # a pair that is a list
        return _length_of_another(message)
    return length if length >= 0 else -1


def _length_of_another(message: Message) -> int:
    """The same for a start that is not as usual, which this makes usual."""
    status = message.get("status")
    if not isinstance(status, int) or status not in _FINAL:
        raise Illegal(f"its status is {status!r}; an answer's is between 200 and 599")
    message["headers"] = [_pair(pair) for pair in message.get("headers") or ()]
    length = _PLAIN
    for pair in message["headers"]:
        length = _joined(length, _examined(pair))
    if status not in {204, 304}:
        return max(length, -1)
    if length > 0 and status == 204:
        raise Illegal("it declares a Content-Length, and an answer with 204 has none")
    message["headers"] = [pair for pair in message["headers"] if pair[0].lower() not in _FRAMING]
    return 0


def _joined(length: int, found: int) -> int:
    """What the headers say of the length, with one header more; Illegal if they contradict each other."""
    if found == _PLAIN:
        return length
    if length != _PLAIN:
        raise Illegal("it has two headers that tell its length (Content-Length, Transfer-Encoding)")
    return found


def _pair(pair: Any) -> tuple[bytes, bytes]:
    try:
        name, value = pair
    except (TypeError, ValueError):
        name = value = None
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise Illegal("a header is not a pair of bytes")
    return name, value


def _examined(pair: tuple[bytes, bytes]) -> int:
    """The length that a header declares, or what else it is; Illegal if it must not be sent."""
    name, value = _pair(pair)
    if not _is_token(name):
        raise Illegal(f"{name[:100]!r} is not a header's name")
    if _has_control(value):
        raise Illegal(f"its header {name.decode()} holds a control character")
    found = _PLAIN
    match name.lower():
        case b"content-length":
            if not is_length(value):
                raise Illegal("its Content-Length is not a number")
            found = int(value)
        case b"transfer-encoding":
            if value.lower() != b"chunked":
                raise Illegal("its Transfer-Encoding is not 'chunked'")
            found = _CHUNKED
    if len(_known) < _KNOWN_SIZE and len(name) + len(value) < 100:
        _known[name, value] = found
    return found


def check_acceptance(message: Message) -> None:
    """Illegal if the acceptance of a WebSocket must not be sent."""
    start: dict[str, Any] = {"status": 200, "headers": message.get("headers") or []}
    length_of(start)
    message["headers"] = start["headers"]
    protocol = message.get("subprotocol")
    if protocol is not None and not _is_token(protocol.encode()):
        raise Illegal("its subprotocol is not a token")
