"""What an answer may hold on the wire: its status, its header fields and its length, whatever a module says.

Pure but for what it remembers of header fields that it has seen.  Called by `dataplane.gateway.limiting` before the
first byte of an answer leaves, and by `dataplane.replying`, which writes it.

Sources: RFC 9110 sections 5.5, 5.6.2 and 8.6 and RFC 9112 section 6.
"""

import re
from typing import Any, Final, NamedTuple

from starlette.types import Message

PLAIN, CLOSES, CHUNKED = -1, -2, -3
"""What a header field says of the answer's end: nothing; that the connection ends with it; that it tells it itself."""
_KNOWN_SIZE: Final = 4_096
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class Field(NamedTuple):
    """A header field that was found well-formed."""

    says: int
    """The length that it declares, or `PLAIN`, `CLOSES` or `CHUNKED`."""
    line: bytes
    """As it stands on the wire."""


_known: dict[tuple[bytes, bytes], Field] = {}
known = _known.get
"""A field that was examined before, or None."""
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
    length = PLAIN
    try:
        for pair in headers:
            said = (known(pair) or examined(pair))[0]
            if said >= 0 or said == CHUNKED:
                length = _joined(length, said)
    except TypeError:  # a pair that is a list
        return _length_of_another(message)
    return length if length >= 0 else -1


def _length_of_another(message: Message) -> int:
    """The same for a start that is not as usual, which this makes usual."""
    status = message.get("status")
    if not isinstance(status, int) or status not in _FINAL:
        raise Illegal(f"its status is {status!r}; an answer's is between 200 and 599")
    message["headers"] = [_pair(pair) for pair in message.get("headers") or ()]
    length = PLAIN
    for pair in message["headers"]:
        length = _joined(length, examined(pair).says)
    if status not in {204, 304}:
        return max(length, -1)
    if length > 0 and status == 204:
        raise Illegal("it declares a Content-Length, and an answer with 204 has none")
    message["headers"] = [pair for pair in message["headers"] if pair[0].lower() not in _FRAMING]
    return 0


def _joined(length: int, found: int) -> int:
    """What the headers say of the length, with one header more; Illegal if they contradict each other."""
    if found in (PLAIN, CLOSES):
        return length
    if length != PLAIN:
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


def examined(pair: tuple[bytes, bytes]) -> Field:
    """A header field, looked at; Illegal if it must not be sent."""
    name, value = _pair(pair)
    if not _is_token(name):
        raise Illegal(f"{name[:100]!r} is not a header's name")
    if _has_control(value):
        raise Illegal(f"its header {name.decode()} holds a control character")
    said, lower = PLAIN, name.lower()
    match lower:
        case b"content-length":
            if not is_length(value):
                raise Illegal("its Content-Length is not a number")
            said = int(value)
        case b"transfer-encoding":
            if value.lower() != b"chunked":
                raise Illegal("its Transfer-Encoding is not 'chunked'")
            said = CHUNKED
        case b"connection" if b"close" in [token.strip() for token in value.lower().split(b",")]:
            said = CLOSES
    field = Field(said, b"%b: %b\r\n" % (lower, value))
    if len(_known) < _KNOWN_SIZE and len(name) + len(value) < 100:
        _known[name, value] = field
    return field


def check_acceptance(message: Message) -> None:
    """Illegal if the acceptance of a WebSocket must not be sent."""
    start: dict[str, Any] = {"status": 200, "headers": message.get("headers") or []}
    length_of(start)
    message["headers"] = start["headers"]
    protocol = message.get("subprotocol")
    if protocol is not None and not _is_token(protocol.encode()):
        raise Illegal("its subprotocol is not a token")
