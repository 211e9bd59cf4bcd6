"""The audit trail's records: who did what, from where, under which policy, and what came of it.

A record is a JSON object with the keys below; what does not apply is left out.  Workers write one for each decision
about a caller (kind ``decision``), the control plane one for each administrative change that somebody asked for
(``change``); each chain of records (`schemas.kits.chains`) opens with ``start`` and ends with ``end``, and ``gap`` says
how many records there could have been and are not.

Always: text that came from outside is bounded, and nothing in it can break a line or move a cursor (`text`).
"""

from collections.abc import Iterable
from typing import Any, Final

from schemas.kits import tracecontext
from schemas.kits.recorders import moment_text

DECISION: Final = "decision"
CHANGE: Final = "change"
KINDS: Final = (DECISION, CHANGE, "start", "end", "gap")

ALLOW: Final = "allow"
DENY: Final = "deny"
ERROR: Final = "error"
OUTCOMES: Final = (ALLOW, DENY, ERROR)

FIELDS: Final = (
    "kind", "at", "outcome", "reason", "detail", "status", "subject", "issuer", "organisation", "client", "method",
    "route", "path", "module", "version", "generation", "policy", "trace", "request", "verb", "resource", "revision",
    "manager", "count", "since", "writer", "boot", "seq",
)  # fmt: skip
"""Every key that a record may have, in the order in which people are shown them."""

moment: Final = moment_text
"""A unix time as records have it: RFC 3339, in UTC, to the millisecond."""

TEXT_MAX: Final = 256
"""Characters of one text; a longer one ends with ``…``."""
_SHORTER: Final = TEXT_MAX - 1


def text(value: object) -> str:
    """What came from outside, bounded; what does not print (line ends, escapes, marks of direction) spelled out."""
    said = value if isinstance(value, str) else str(value)
    if len(said) > TEXT_MAX:
        said = said[:_SHORTER] + "…"
    if said.isprintable():
        return said
    spelled = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in said)
    return spelled if len(spelled) <= TEXT_MAX else spelled[:_SHORTER] + "…"


def header(value: bytes) -> str:
    """The same for the value of a header."""
    return text(value[: TEXT_MAX + 1].decode("latin-1"))


CARRIED: Final = frozenset({b"traceparent", b"x-request-id"})
"""The headers that `carried` reads."""


def carried(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The trace (``traceparent``) and the request (``x-request-id``) that a caller names."""
    found = {}
    for name, value in headers:
        if name == b"traceparent":
            parent = tracecontext.read_traceparent(value[: 2 * TEXT_MAX].decode("latin-1"))
            if parent is not None:
                found["trace"] = parent.trace_id
        elif name == b"x-request-id":
            found["request"] = header(value)
    return found


def record(**fields: Any) -> dict[str, Any]:
    """A record of what is known: what is None or empty is left out, what is text is made harmless."""
    return {
        key: text(value) if isinstance(value, str) else value
        for key, value in fields.items()
        if value is not None and value != ""
    }
