"""Forms of records: what many records have in common is spelled once, and each brings only its own few values.

Always: a filled form is, byte for byte, what `schemas.kits.chains.canonical` makes of the record that it stands for, so
whoever reads or verifies a chain sees no difference.  Measured: a decision of the audit trail takes a quarter of the
time that way.  Filled by who encodes notes (`dataplane.gateway.auditing`); `schemas.kits.spools` knows the place in the
chain and spells it.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from schemas.kits.chains import Chain, Json

_SEQ: Final = "seq"


def spelled(value: Any) -> bytes:
    """A value as it stands in a record; ValueError."""
    return to_json(value)


class Form:
    """What some records have in common, ready to be filled."""

    __slots__ = ("_before", "_chain", "_common", "_own", "_text")

    def __init__(self, common: Json, own: Sequence[str]) -> None:
        """``common``: keys with values; ``own``: keys whose values each record brings, in order of the alphabet."""
        assert list(own) == sorted(set(own) - {*common, _SEQ, "writer", "boot"}), "keys are there once, and in order"
        self._common = common
        self._own = own
        self._before = sum(key < _SEQ for key in own)
        """How many of them stand before the record's number."""
        self._chain: Chain | None = None
        self._text = b""

    def spell(self, chain: Chain, seq: int, values: tuple[bytes, ...]) -> bytes:
        """The record with this number in this chain; ``values``: each `spelled`, in the order of the keys."""
        if chain is not self._chain:
            self._text, self._chain = self._spelled(chain), chain
        before = self._before
        return self._text % (*values[:before], seq, *values[before:])

    def _spelled(self, chain: Chain) -> bytes:
        """As a format: what each record brings is left open."""
        common = {**self._common, **chain._asdict()}
        parts = {key: _literal(value) for key, value in common.items()}
        parts.update(dict.fromkeys(self._own, b"%b"), seq=b"%d")
        return b"{" + b",".join(_literal(key) + b":" + parts[key] for key in sorted(parts)) + b"}"


def _literal(value: Any) -> bytes:
    return spelled(value).replace(b"%", b"%%")


class Filled(NamedTuple):
    """A record."""

    form: Form
    values: tuple[bytes, ...]
