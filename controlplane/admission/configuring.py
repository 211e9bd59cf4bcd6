"""A module's configuration against the schema that it brings along (JSON Schema, draft 2020-12 by default).

Always holds: nothing is fetched (references stay inside the schema), regular expressions cannot explode, and a
schema that multiplies itself through references is refused before it is used.  Called by `modulerules`.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import jsonschema_rs

from controlplane.admission import pointers, wording
from schemas.meta import Json

Finding: TypeAlias = tuple[str, list[str | int], str]
"""(``configSchema`` or ``config``, path inside it, message)."""

MAX_FINDINGS: Final = 50
"""Per document; more say nothing new."""
MAX_VISITS: Final = 10_000
"""Schema nodes that one value may be checked against, references followed."""


def violations(schema: Json, config: Json | None) -> list[Finding]:
    """What is wrong with the schema, or with the configuration under it; ``config`` None: look at the schema only."""
    broken = list(_references(schema)) or list(_expansion(schema))
    if broken:
        return broken
    try:
        validator = jsonschema_rs.validator_for(
            schema,
            retriever=_refuse,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000, size_limit=1 << 20),
        )
    except jsonschema_rs.ValidationError as error:
        return [("configSchema", list(error.instance_path), f"is no valid JSON Schema: {_first_line(error.message)}.")]
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return [("configSchema", [], f"is no valid JSON Schema: {_first_line(str(error))}.")]
    return list(_findings(validator, config)) if config is not None else []


def _findings(validator: Any, config: Json) -> Iterator[Finding]:
    if validator.is_valid(config):
        return
    for count, error in enumerate(validator.iter_errors(config)):
        if count == MAX_FINDINGS:
            return
        yield "config", list(error.instance_path), f"{_first_line(error.message)}{_hint(error)} (by spec.configSchema)."


def _hint(error: Any) -> str:
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Enum) and isinstance(error.instance, str):
        return wording.suggestion(error.instance, [option for option in kind.options if isinstance(option, str)])
    return ""


def _first_line(message: str) -> str:
    line = message.strip().partition("\n")[0]
    return (line if len(line) <= 300 else line[:299] + "…").rstrip(".")


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is outside the schema, and nothing is fetched")


def _references(schema: Any) -> Iterator[Finding]:
    """References that leave the schema or lead nowhere."""
    stack: list[tuple[list[str | int], Any]] = [([], schema)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str) and not target.startswith("#"):
                yield (
                    "configSchema",
                    [*path, "$ref"],
                    f"refers to '{target[:80]}', and nothing is fetched; put it below $defs and write '#/$defs/…'.",
                )
            stack.extend(([*path, key], value) for key, value in node.items())
        elif isinstance(node, list):
            stack.extend(([*path, index], value) for index, value in enumerate(node))


def _expansion(schema: Json) -> Iterator[Finding]:
    """Refuse a schema whose references, written out, are more than `MAX_VISITS` nodes (a loop counts once)."""
    sizes: dict[str, int] = {}

    def of(node: Any, open_targets: frozenset[str]) -> int:
        if isinstance(node, list):
            return sum(of(item, open_targets) for item in node)
        if not isinstance(node, dict):
            return 0
        total = 1 + sum(of(value, open_targets) for value in node.values())
        target = node.get("$ref")
        if isinstance(target, str) and target.startswith("#") and target not in open_targets:
            if target not in sizes:
                sizes[target] = of(pointers.get(schema, target[1:]), open_targets | {target})
            total += sizes[target]
        return total

    if of(schema, frozenset()) > MAX_VISITS:
        yield "configSchema", [], f"multiplies itself to more than {MAX_VISITS:,} rules through $ref; make it simpler."
