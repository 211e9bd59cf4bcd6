"""How much work a JSON Schema makes of a value, before anybody does that work.

A schema of a few lines can ask for 2**30 checks (``allOf`` twice, by reference, level by level), and no validator
can be interrupted.  Always holds: the count is exact or too high, and counting is cheap: each pair of a rule and
a value is counted once and remembered.  Called by `configuring`; nothing follows.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from controlplane.admission import pointers
from schemas.meta import Json

MAX_PAIRS: Final = 50_000
"""Pairs of rule and value that are looked at; more is too much work by itself."""

_LISTS: Final = ("allOf", "anyOf", "oneOf")
_SINGLES: Final = ("not", "if", "then", "else")
_MAPS: Final = ("dependentSchemas", "dependencies")
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_EACH_MEMBER: Final = ("additionalProperties", "unevaluatedProperties")
_EACH_ITEM: Final = ("items", "additionalItems", "unevaluatedItems", "contains")
_AGAIN: Final = ("unevaluatedProperties", "unevaluatedItems")

Pair: TypeAlias = tuple[Any, Any]


class TooMuch(Exception):  # noqa: N818 (an answer, not an error)
    """The schema asks for more than anybody will do."""


def visits(schema: Json, value: Any) -> int:
    """How many rules are checked when ``value`` is held against ``schema``.  Raises `TooMuch`."""
    try:
        return _Count(schema).of(schema, value)
    except RecursionError as error:
        raise TooMuch from error


class _Count:
    def __init__(self, schema: Json) -> None:
        self._schema = schema
        self._known: dict[tuple[int, int], int] = {}
        self._anchors = dict(_anchors(schema))

    def of(self, rule: Any, value: Any) -> int:
        if not isinstance(rule, dict):
            return 1
        key = (id(rule), id(value))
        if key in self._known:
            return self._known[key]
        if len(self._known) >= MAX_PAIRS:
            raise TooMuch
        self._known[key] = 0  # a loop that consumes nothing is noticed by the validator
        total = len(rule) + sum(self.of(*pair) for pair in self._pairs(rule, value))
        if any(word in rule for word in _AGAIN):
            total *= 2
        self._known[key] = total
        return total

    def _pairs(self, rule: Json, value: Any) -> Iterator[Pair]:
        for word in _LISTS:
            for inner in _list(rule.get(word)):
                yield inner, value
        for word in _SINGLES:
            if word in rule:
                yield rule[word], value
        for word in _MAPS:
            for inner in _dict(rule.get(word)).values():
                yield inner, value
        for word in _REFERENCES:
            if isinstance(rule.get(word), str):
                yield self._target(rule[word]), value
        if isinstance(value, dict):
            yield from _members(rule, value)
        elif isinstance(value, list):
            yield from _items(rule, value)

    def _target(self, reference: str) -> Any:
        if reference in self._anchors:
            return self._anchors[reference]
        found = pointers.get(self._schema, reference.removeprefix("#"))
        return None if found is pointers.MISSING else found


def _members(rule: Json, value: Json) -> Iterator[Pair]:
    properties = _dict(rule.get("properties"))
    patterns = list(_dict(rule.get("patternProperties")).values())
    everywhere = [rule[word] for word in _EACH_MEMBER if word in rule]
    for key, item in value.items():
        if key in properties:
            yield properties[key], item
        for inner in (*patterns, *everywhere):
            yield inner, item
        if "propertyNames" in rule:
            yield rule["propertyNames"], key


def _items(rule: Json, value: list[Any]) -> Iterator[Pair]:
    tuples = [*_list(rule.get("prefixItems")), *_list(rule.get("items"))]
    yield from zip(tuples, value, strict=False)
    everywhere = [rule[word] for word in _EACH_ITEM if isinstance(rule.get(word), dict)]
    for item in value:
        for inner in everywhere:
            yield inner, item


def _anchors(schema: Any) -> Iterator[tuple[str, Any]]:
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            for word in ("$anchor", "$dynamicAnchor"):
                if isinstance(node.get(word), str):
                    yield f"#{node[word]}", node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _dict(found: Any) -> Json:
    return found if isinstance(found, dict) else {}
