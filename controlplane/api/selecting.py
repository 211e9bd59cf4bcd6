"""Label and field selectors: which objects of a kind a caller means.

Pure.  Grammar: Kubernetes labels (``a=b``, ``a!=b``, ``a in (b,c)``, ``a notin (b)``, ``a``, ``!a``; as in
k8s.io/apimachinery/pkg/labels), and for fields ``path=value`` and ``path!=value`` on the paths that a kind's
columns show, ``metadata.name`` and ``metadata.uid``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from controlplane.api import answering
from schemas import kinds
from schemas.meta import Json

_SPLIT: Final = re.compile(r",(?![^(]*\))")
_SET: Final = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUALS: Final = re.compile(r"^(?P<key>[^=!\s]+)\s*(?P<operator>!=|==|=)\s*(?P<value>[^=!]*)$")
_KEY: Final = re.compile(r"^([a-z0-9A-Z]([-a-z0-9A-Z_.]*[a-z0-9A-Z])?/)?[a-z0-9A-Z]([-a-z0-9A-Z_.]*[a-z0-9A-Z])?$")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One clause: a key, and which values please."""

    key: str
    values: frozenset[str] | None
    """None: any value, only presence counts."""
    negated: bool = False

    def met(self, value: str | None) -> bool:
        """Whether a value (None: absent) pleases."""
        found = value is not None if self.values is None else value in self.values
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """What a caller asks for; empty selects everything."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def value(self, path: str) -> str | None:
        """The one value of a field that can match, if the selector says so."""
        for requirement in self.fields:
            if requirement.key == path and not requirement.negated and requirement.values:
                return next(iter(requirement.values))
        return None

    def matches(self, document: Json) -> bool:
        """Whether an object, as the API shows it, is selected."""
        labels = document.get("metadata", {}).get("labels") or {}
        return all(requirement.met(labels.get(requirement.key)) for requirement in self.labels) and all(
            requirement.met(field_text(document, requirement.key)) for requirement in self.fields
        )


def parse(kind: kinds.Kind, labels: str, fields: str) -> Selector:
    """The selector of ``labelSelector`` and ``fieldSelector``; raises `answering.Refusal` (400)."""
    return Selector(_clauses(labels, _label_clause), _clauses(fields, lambda text: _field_clause(kind, text)))


def field_paths(kind: kinds.Kind) -> list[str]:
    """The field paths that a kind can be selected by."""
    shown = [column.path[1:] for column in kind.columns if column.path.startswith(".")]
    return sorted({"metadata.name", "metadata.uid", *shown})


def field_text(document: Json, path: str) -> str:
    """A field's value as text; absent is the empty text, as Kubernetes has it."""
    found: Any = document
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, bool):
        return "true" if found else "false"
    return "" if found is None else str(found)


def _clauses(text: str, read: Callable[[str], Requirement]) -> tuple[Requirement, ...]:
    if not text.strip():
        return ()
    if len(text) > 8192:
        raise answering.Refusal(400, "the selector is longer than 8192 characters; split the question")
    return tuple(read(part.strip()) for part in _SPLIT.split(text))


def _label_clause(text: str) -> Requirement:
    if match := _SET.match(text):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(_key(match["key"]), values, negated=match["operator"] == "notin")
    if match := _EQUALS.match(text):
        value = frozenset({match["value"].strip()})
        return Requirement(_key(match["key"]), value, negated=match["operator"] == "!=")
    if text.startswith("!"):
        return Requirement(_key(text[1:].strip()), None, negated=True)
    return Requirement(_key(text), None)


def _key(text: str) -> str:
    if not _KEY.match(text):
        raise answering.Refusal(
            400, f"labelSelector: {text[:80]!r} is no label key; write for example team=insights,tier in (a,b),!old"
        )
    return text


def _field_clause(kind: kinds.Kind, text: str) -> Requirement:
    match = _EQUALS.match(text)
    known = field_paths(kind)
    if match is None or match["key"] not in known:
        what = match["key"] if match is not None else text
        raise answering.Refusal(
            400, f"fieldSelector: {what[:80]!r} cannot be selected by; {kind.plural} know {', '.join(known)}"
        )
    return Requirement(match["key"], frozenset({match["value"].strip()}), negated=match["operator"] == "!=")
