"""A document against its model, strictly: unknown fields, wrong types, values out of range, all at once.

Always holds: the models are the ones that read the wire tolerantly; only the reading differs (no coercion, wire
names only, nothing unknown).  A document without fault
is never made into its model.  Called by `validating`; the rules that need more than one field come after.
"""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import ValidationError

from controlplane.admission import defaulting, pointers, screening, wording
from schemas import kinds
from schemas.meta import Json, Model
from schemas.problems import Violation


def violations(kind: kinds.Kind, text: str) -> list[Violation]:
    """Everything in ``text`` (JSON) that the kind's model does not allow, in the model's order."""
    try:
        screening.screen(kind.model).validate_json(text, strict=True, extra="forbid", by_alias=True, by_name=False)
    except ValidationError:
        return _told(kind, text)
    return []


def _told(kind: kinds.Kind, text: str) -> list[Violation]:
    try:
        kind.model.model_validate_json(text, strict=True, extra="forbid", by_alias=True, by_name=False)
    except ValidationError as error:
        return [_violation(kind.model, dict(item)) for item in error.errors(include_url=False)]
    return []


def without_nulls(model: type[Model], document: Json) -> Json:
    """A copy of ``document`` without null in known fields, where it means the same as leaving them out."""
    known = defaulting.models_by_field(model)
    return {
        key: _value_without_nulls(known.get(key), value)
        for key, value in document.items()
        if value is not None or key not in known
    }


def _value_without_nulls(inner: type[Model] | None, value: Any) -> Any:
    if inner is None:
        return defaulting.copied(value)
    if isinstance(value, list):
        return [_value_without_nulls(inner, item) if isinstance(item, dict) else item for item in value]
    return without_nulls(inner, value) if isinstance(value, dict) else value


def _violation(model: type[Model], error: dict[str, Any]) -> Violation:
    place: tuple[str | int, ...] = error["loc"]
    if place and place[-1] == "[key]":
        place = place[:-1]
    pointer = pointers.join(place)
    if error["type"] == "extra_forbidden":
        return Violation(pointer=pointer, message=_unknown(model, place), reason="FieldValueForbidden")
    message, reason = wording.sentence(error)
    return Violation(pointer=pointer, message=f"{pointers.dotted(pointer)} {message}", reason=reason)


def _unknown(model: type[Model], place: tuple[str | int, ...]) -> str:
    """A field that does not exist: the closest one beside it, or the same one elsewhere."""
    word, around = str(place[-1]), pointers.join(place[:-1])
    owner = _model_at(model, place[:-1])
    known = list(defaulting.models_by_field(owner)) if owner is not None else []
    message = f"{pointers.dotted(pointers.join(place))} is not a field that exists."
    near = wording.closest(word, known)
    if near is not None:
        return f"{message} Did you mean '{near}'?"
    elsewhere = next((path for path in _fields_below(model, "") if path.rpartition(".")[2] == word), None)
    if elsewhere is not None:
        return f"{message} Did you mean {elsewhere}?"
    where = pointers.dotted(around) or "The document"
    return f"{message} {where} may have: {', '.join(known)}."


def _model_at(model: type[Model], place: tuple[str | int, ...]) -> type[Model] | None:
    found: type[Model] | None = model
    for part in place:
        if isinstance(part, int):
            continue
        if found is None:
            return None
        found = defaulting.models_by_field(found).get(part)
    return found


def _fields_below(model: type[Model], prefix: str) -> Iterator[str]:
    """Dotted paths of every field of a model, outermost first, the status left out."""
    inner: list[tuple[str, type[Model]]] = []
    for name, field in model.model_fields.items():
        path = prefix + defaulting.wire_name(model, name)
        if path == "status":
            continue
        yield path
        below = defaulting.model_in(field.annotation)
        if below is not None:
            inner.append((f"{path}[]." if _many(field.annotation) else f"{path}.", below))
    for path, below in inner:
        yield from _fields_below(below, path)


def _many(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list or any(_many(part) for part in get_args(annotation))
