"""A module's configuration against the schema that it brings along (JSON Schema, draft 2020-12 by default).

Always holds: nothing is fetched (references stay inside the schema), regular expressions cannot explode, and a
schema that multiplies itself through references is refused before it is used.  A ``secret://name`` has to stand where
the schema has a text; which one is known to the workers alone, so nothing more is asked of it.  Called by
`modulerules`.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import jsonschema_rs

from controlplane.admission import budgeting, wording
from schemas import references
from schemas.meta import Json

_KINDS: Final = jsonschema_rs.ValidationErrorKind
_FORM: Final = (
    *(_KINDS.Constant, _KINDS.Enum, _KINDS.Format, _KINDS.MinLength, _KINDS.MaxLength, _KINDS.Pattern),
    *(_KINDS.BacktrackLimitExceeded, _KINDS.RegexEngineFailure),
)
"""What a schema may ask of a text's form."""
_EITHER: Final = (_KINDS.AnyOf, _KINDS.OneOfNotValid)

Finding: TypeAlias = tuple[str, list[str | int], str]
"""(``configSchema`` or ``config``, path inside it, message)."""

MAX_FINDINGS: Final = 50
"""Per document; more say nothing new."""
MAX_VISITS: Final = 500_000
"""Rules that may be checked for one configuration (see `budgeting`): some tens of milliseconds."""
LISTED_VISITS: Final = 20_000
"""Up to here every misfit is told; beyond, only the first one, because collecting them costs a thousand times more."""


def violations(schema: Json, config: Json | None) -> list[Finding]:
    """What is wrong with the schema, or with the configuration under it; ``config`` None: look at the schema only."""
    broken = list(_references(schema))
    if broken:
        return broken
    try:
        visits = budgeting.visits(schema, config) if config is not None else 0
    except budgeting.TooMuch:
        visits = MAX_VISITS + 1
    if visits > MAX_VISITS:
        message = f"multiplies itself through $ref to more than {MAX_VISITS:,} checks of this config; make it simpler."
        return [("configSchema", [], message)]
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
    return list(_findings(validator, config, visits)) if config is not None else []


def _findings(validator: Any, config: Json, visits: int) -> Iterator[Finding]:
    if validator.is_valid(config):
        return
    errors = validator.iter_errors(config) if visits <= LISTED_VISITS else [_first_error(validator, config)]
    misfits = (error for error in errors if not _about_a_secret(error))
    for error in itertools.islice(misfits, MAX_FINDINGS):
        yield "config", list(error.instance_path), f"{_first_line(error.message)}{_hint(error)} (by spec.configSchema)."


def _first_error(validator: Any, config: Json) -> Any:
    try:
        validator.validate(config)
    except jsonschema_rs.ValidationError as error:
        return error
    raise AssertionError("what is_valid refuses, validate refuses")


def _about_a_secret(error: Any) -> bool:
    """Whether a misfit is only that a reference is not of the form that the secret itself should have."""
    kind = error.kind
    if isinstance(kind, _EITHER):
        return any(all(map(_about_a_secret, branch)) for branch in kind.context)
    return (
        isinstance(kind, _FORM) and isinstance(error.instance, str) and references.name_of(error.instance) is not None
    )


def _hint(error: Any) -> str:
    kind = error.kind
    if isinstance(kind, _KINDS.Enum) and isinstance(error.instance, str):
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
            if path and isinstance(node.get("$id"), str):
                message = "gives a part an address of its own; remove it and refer to the part by '#/$defs/…'."
                yield "configSchema", [*path, "$id"], message
            stack.extend(([*path, key], value) for key, value in node.items())
        elif isinstance(node, list):
            stack.extend(([*path, index], value) for index, value in enumerate(node))
