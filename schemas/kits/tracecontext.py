"""Who a trace belongs to, read and written as the W3C says: Trace Context level 2 and Baggage, strictly.

Pure.  Always holds: what is malformed is as if it were not there (no error reaches a caller), a tracestate without a
valid traceparent is dropped, a malformed tracestate never spoils the traceparent, and what is written can be read back.
Both planes read requests, documents and events with it, and write what they send on.
Sources: https://www.w3.org/TR/trace-context-2/ and https://www.w3.org/TR/baggage/.
"""

import random
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""Level 2: the right seven bytes of the trace id are random."""

STATE_MEMBERS_MAX: Final = 32
STATE_LENGTH: Final = 512
"""Characters of a tracestate that is sent on; every participant has to carry at least these."""
STATE_LONG_MEMBER: Final = 128
"""Members longer than this leave first when a tracestate is too long."""
BAGGAGE_MEMBERS_MAX: Final = 64
BAGGAGE_BYTES_MAX: Final = 8192

Fields = list[tuple[bytes, bytes]]
"""Headers, names in lower case, in the order in which they came."""

_FIELDS: Final = frozenset({b"traceparent", b"tracestate", b"baggage"})
_OWS: Final = " \t"
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_UNSAMPLED: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")
_WORD: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_STATE_KEY: Final = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}")
_STATE_VALUE: Final = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 -- the token of RFC 9110, no secret
_OCTETS: Final = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
_BAGGAGE: Final = re.compile(
    rf"{_TOKEN}[ \t]*=[ \t]*{_OCTETS}(?:[ \t]*;[ \t]*{_TOKEN}(?:[ \t]*=[ \t]*{_OCTETS})?)*", re.ASCII
)


class Traceparent(NamedTuple):
    """One position in a trace."""

    trace_id: str
    """32 lower-case hexadecimal digits, not all zero."""
    span_id: str
    """16 of them, not all zero: the caller's span when received, our own when sent."""
    flags: int = 0
    """Only the bits that level 2 names: `SAMPLED` and `RANDOM`."""

    @property
    def sampled(self) -> bool:
        """Whether the caller may have recorded this trace."""
        return bool(self.flags & SAMPLED)

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags & (SAMPLED | RANDOM):02x}"


Members = tuple[tuple[str, str], ...]
"""Of a tracestate: keys with their values, the newest first."""


class Carried(NamedTuple):
    """What a request or a message brings along."""

    parent: Traceparent | None
    state: Members = ()
    baggage: tuple[str, ...] = ()
    """Members as they were written, properties with them, still percent-encoded."""


NOTHING: Final = Carried(None)


def read_traceparent(text: str) -> Traceparent | None:
    """The position that a ``traceparent`` names; None when it is none.

    Versions to come are read by the fields that version 00 has (section 3.2.4), their extra fields are left out.
    """
    found = _PARENT.fullmatch(text.strip(_OWS))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return Traceparent(trace_id, span_id, int(flags, 16) & (SAMPLED | RANDOM))


def read_tracestate(values: Sequence[str]) -> Members:
    """The members of one or several ``tracestate`` fields, in order; empty when one of them is malformed.

    A key that stands twice makes it malformed too; empty members are allowed and left out (section 3.3.1.1).
    """
    members: dict[str, str] = {}
    for text in values:
        for member in text.split(","):
            key, equals, value = member.lstrip(_OWS).partition("=")
            value = value.rstrip(_OWS)
            if not key and not equals:
                continue
            if not _STATE_KEY.fullmatch(key) or not _STATE_VALUE.fullmatch(value) or key in members:
                return ()
            members[key] = value
    return tuple(members.items()) if len(members) <= STATE_MEMBERS_MAX else ()


def write_tracestate(members: Members) -> str:
    """One field of at most `STATE_LENGTH` characters: long members leave first, then the last (section 3.3.1.5)."""
    texts = [f"{key}={value}" for key, value in members[:STATE_MEMBERS_MAX]]
    while len(",".join(texts)) > STATE_LENGTH:
        long = [at for at, text in enumerate(texts) if len(text) > STATE_LONG_MEMBER]
        del texts[long[-1] if long else -1]
    return ",".join(texts)


def read_baggage(values: Sequence[str]) -> tuple[str, ...]:
    """The well-formed members of one or several ``baggage`` fields, as many as the limits allow, whole ones only."""
    members: list[str] = []
    left = BAGGAGE_BYTES_MAX
    for text in values:
        for raw in text.split(","):
            member = raw.strip(_OWS)
            if len(member) > left or len(members) == BAGGAGE_MEMBERS_MAX:
                return tuple(members)
            if _BAGGAGE.fullmatch(member):
                members.append(member)
                left -= len(member) + 1
    return tuple(members)


def read(headers: Iterable[tuple[bytes, bytes]]) -> Carried:
    """What an ASGI scope's headers (names in lower case) carry."""
    return read_fields(fields(headers))


def fields(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Those of an ASGI scope's headers that `read_fields` wants: none, in most requests."""
    return [pair for pair in headers if pair[0] in _FIELDS]


def unsampled(found: Fields) -> bool:
    """Whether the parent that they carry is one that its caller does not record; a look at bytes, nothing is read.

    Never true of what `read_fields` takes for something else; false of versions to come, which have to be read.
    """
    if len(found) == 1:
        return found[0][0] == b"traceparent" and _UNSAMPLED.fullmatch(found[0][1]) is not None
    parents = [value for name, value in found if name == b"traceparent"]
    return len(parents) == 1 and _UNSAMPLED.fullmatch(parents[0]) is not None


def read_fields(found: Fields) -> Carried:
    """What `fields` carry."""
    if not found:
        return NOTHING
    if len(found) == 1 and found[0][0] == b"traceparent":  # as in most others
        return Carried(read_traceparent(found[0][1].decode("latin-1")))
    parents = [value.decode("latin-1") for name, value in found if name == b"traceparent"]
    states = [value.decode("latin-1") for name, value in found if name == b"tracestate"]
    bags = [value.decode("latin-1") for name, value in found if name == b"baggage"]
    parent = read_traceparent(parents[0]) if len(parents) == 1 else None
    state = read_tracestate(states) if parent is not None and states else ()
    return Carried(parent, state, read_baggage(bags) if bags else ())


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """What a caller calls its request (``x-request-id``), if that is a word; else one of our own."""
    given = next((value for name, value in headers if name == b"x-request-id"), b"")
    return given.decode() if _WORD.fullmatch(given) else new_span_id()


def write(carried: Carried) -> dict[str, str]:
    """The headers of an outgoing call or message; empty when there is nothing to say."""
    headers: dict[str, str] = {}
    if carried.parent is not None:
        headers["traceparent"] = str(carried.parent)
        if carried.state:
            headers["tracestate"] = write_tracestate(carried.state)
    if carried.baggage:
        headers["baggage"] = ",".join(carried.baggage)
    return headers


def start(flags: int = RANDOM) -> Traceparent:
    """A new trace at its first span."""
    return Traceparent(new_trace_id(), new_span_id(), flags)


def child(parent: Traceparent) -> Traceparent:
    """A new span of the same trace."""
    return Traceparent(parent.trace_id, new_span_id(), parent.flags)


def new_trace_id() -> str:
    """Random, never all zero."""
    return f"{random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    """Random, never all zero."""
    return f"{random.getrandbits(64) or 1:016x}"
