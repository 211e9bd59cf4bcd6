"""The one answer to "may this come in?", for every kind and every door, with every problem at once.

Always holds: what passes has only known fields, wire names, right types, names in their one spelling; the
document given is not changed; a null in a known field means the same as leaving it out.  Called by the API's
write path, discovery, rows and ``modplane validate``; `defaulting` and `owning` follow.
"""

from typing import Any, Final

from controlplane.admission import bounds, checking, defaulting, modulerules, otherrules, ruling, wording
from schemas import kinds, names
from schemas.meta import Json
from schemas.problems import Violation

MAX_VIOLATIONS: Final = 100
"""Told of one document; whoever has more fixes these first."""

RULES: Final[dict[str, tuple[ruling.Rule, ...]]] = {
    kind: (*ruling.COMMON, *rules) for kind, rules in {"Module": modulerules.RULES, **otherrules.RULES}.items()
}

WRITABLE: Final = [kind.name for kind in kinds.KINDS if kind.writable]


class ModuleValidator:
    """`validate` as an object, the form in which the seed's vocabulary has it."""

    def validate(self, document: Json, *, partial: bool = False) -> tuple[Json | None, list[Violation]]:
        """See `validate`."""
        return validate(document, partial=partial)


def validate(document: Any, *, partial: bool = False) -> tuple[Json | None, list[Violation]]:
    """(the normalised document, nothing), or (None, everything that is wrong with it).

    Normalised: only fields that were given, names in hyphens, no nulls in known fields, no ``status`` and no
    ``metadata.managedFields`` (those are the server's).  ``partial``: a piece for server-side apply, which may
    leave out required fields of the spec.
    """
    if not isinstance(document, dict):
        return None, [_whole(f"A manifest is an object with apiVersion, kind, metadata and spec, not {_a(document)}.")]
    given = {key: value for key, value in document.items() if key != "status"}
    text, problems = bounds.encode(given)
    if problems:
        return None, problems
    kind, problems = _kind(document)
    if kind is None:
        return None, problems
    normal = _normalised(kind, given, nulls="null" in text)
    if normal != given:
        text, _ = bounds.encode(normal)
    problems += checking.violations(kind, text)
    if partial:
        problems = [found for found in problems if not _missing_group(found)]
    ruled = ruling.check(ruling.Draft(normal, partial), RULES[kind.name])
    if not problems and not ruled:
        return normal, []
    return None, _without_echoes(problems, ruled)[:MAX_VIOLATIONS]


def _kind(document: Json) -> tuple[kinds.Kind | None, list[Violation]]:
    """The kind of a document and what is wrong with its apiVersion; None: nothing more can be said about it."""
    problems: list[Violation] = []
    version, word = document.get("apiVersion"), document.get("kind")
    if version != names.API_VERSION:
        what = "is missing" if version is None else f"is {wording.shown(version)}"
        problems.append(
            Violation(
                pointer="/apiVersion",
                message=f"apiVersion {what}; write apiVersion: {names.API_VERSION}.",
                reason="FieldValueRequired" if version is None else "FieldValueNotSupported",
            )
        )
    found = kinds.BY_NAME.get(word) if isinstance(word, str) else None
    if found is None or not found.writable:
        problems.append(_no_kind(word, found))
        return None, problems
    return found, problems


def _no_kind(word: Any, found: kinds.Kind | None) -> Violation:
    if found is not None:
        message = f"A {found.name} is written by the control plane only; you can write {wording.listed(WRITABLE)}."
        return Violation(pointer="/kind", message=message, reason="FieldValueForbidden")
    if word is None:
        message = f"kind is missing; write {wording.listed(WRITABLE)}."
        return Violation(pointer="/kind", message=message, reason="FieldValueRequired")
    hint = ""
    if isinstance(word, str):
        meant = kinds.find(word)
        hint = f" Did you mean '{meant.name}'?" if meant is not None else wording.suggestion(word, WRITABLE)
    message = f"kind must be {wording.listed(WRITABLE)}, but is {wording.shown(word)}.{hint}"
    return Violation(pointer="/kind", message=message, reason="FieldValueNotSupported")


def _normalised(kind: kinds.Kind, document: Json, *, nulls: bool) -> Json:
    normal = checking.without_nulls(kind.model, document) if nulls else defaulting.copied_object(document)
    normal["apiVersion"] = names.API_VERSION
    metadata, spec = normal.get("metadata"), normal.get("spec")
    if isinstance(spec, dict):
        _hyphens(spec, "module")
        _hyphens(spec, "organisation")
        _hyphens(spec.get("routing"), "namespace")
        prerequisites = spec.get("prerequisites")
        if isinstance(prerequisites, list):
            named = [names.object_name(item) if isinstance(item, str) else item for item in prerequisites]
            spec["prerequisites"] = named
        dependencies = spec.get("dependencies")
        for item in dependencies if isinstance(dependencies, list) else ():
            _hyphens(item, "name")
    if metadata is None:
        metadata = normal["metadata"] = {}
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
        if kind.name == "ModuleAccess" and "name" not in metadata:
            _name_access(metadata, spec)
        _hyphens(metadata, "name")
    return normal


def _without_echoes(typed: list[Violation], ruled: list[Violation]) -> list[Violation]:
    """Both, one voice per place: where a pattern fails, the rule knows more; else the types have spoken."""
    better = {found.pointer for found in ruled}
    kept = [found for found in typed if found.reason != "FieldValueInvalid" or found.pointer not in better]
    spoken = {found.pointer for found in kept}
    return kept + [found for found in ruled if found.pointer not in spoken]


def _missing_group(found: Violation) -> bool:
    """Whether a violation only says that a piece for server-side apply is a piece."""
    return found.reason == "FieldValueRequired" and found.pointer.startswith("/spec") and found.pointer.count("/") <= 2


def _name_access(metadata: Json, spec: Any) -> None:
    """An access without a name is called after its two ends."""
    ends = (spec.get("organisation"), spec.get("module")) if isinstance(spec, dict) else (None, None)
    if isinstance(ends[0], str) and isinstance(ends[1], str):
        metadata["name"] = names.access_name(ends[0], ends[1])


def _hyphens(holder: Any, key: str) -> None:
    if isinstance(holder, dict) and isinstance(holder.get(key), str):
        holder[key] = names.object_name(holder[key])


def _whole(message: str) -> Violation:
    return Violation(pointer="", message=message, reason="FieldValueTypeInvalid")


def _a(value: Any) -> str:
    return wording.kind_of(value)
