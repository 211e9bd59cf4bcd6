"""Every field that a manifest leaves out, filled in, so that what is stored says all that is asked for.

Always holds: a given value is never changed; filling twice changes nothing; nothing is shared with the models.
Called by the write path and `owning`, after names are normalised and before validation of the whole.
"""

import functools
from typing import Any, Final, get_args

from pydantic import BaseModel

from schemas import kinds
from schemas.meta import Json, Model

_HOLDERS: Final = (dict, list)
"""The JSON values that hold others, of which everybody gets a copy."""


def default(kind: str, name: str, spec: Json) -> Json:
    """``spec`` of an object with every default; required fields that are missing stay missing.

    For a Module also those that follow from others: ``routing.namespace`` is the name, ``source.path`` the
    entry point's top package.  KeyError if the kind does not exist.
    """
    model = spec_model(kind)
    full = fill(model, spec) if model is not None else copied_object(spec)
    if kind == "Module":
        _default_module(name, full)
    return full


def default_groups(kind: str, name: str, spec: Json) -> Json:
    """Only the top-level fields that ``spec`` gives, each filled inside: what one applier asks for."""
    model = spec_model(kind)
    if model is None:
        return copied_object(spec)
    fields = {alias: (inner, many) for alias, inner, many in _fields(model)}
    given = {key: _fill_value(*fields.get(key, (None, False)), value) for key, value in spec.items()}
    if kind == "Module":
        _default_module(name, given)
    return given


@functools.cache
def spec_model(kind: str) -> type[Model] | None:
    """The model of a kind's spec; None: the kind has none."""
    field = kinds.BY_NAME[kind].model.model_fields.get("spec")
    return model_in(field.annotation) if field is not None else None


def fill(model: type[Model], given: Json) -> Json:
    """``given`` with the defaults of ``model``, in the model's order; fields it does not know come last."""
    filled: Json = {}
    standard = _standard(model)
    for alias, inner, many in _fields(model):
        if alias in given:
            value = given[alias]
            filled[alias] = _fill_value(inner, many, value) if isinstance(value, _HOLDERS) else value
        elif alias in standard:
            value = standard[alias]
            filled[alias] = copied(value) if isinstance(value, _HOLDERS) else value
    if not given.keys() <= filled.keys():
        filled.update((key, copied(value)) for key, value in given.items() if key not in filled)
    return filled


def copied(value: Any) -> Any:
    """A JSON value's own copy; `copy.deepcopy` costs five times as much, because it also expects what JSON has not."""
    if isinstance(value, dict):
        return copied_object(value)
    return [copied(item) for item in value] if isinstance(value, list) else value


def copied_object(value: Json) -> Json:
    """An object's own copy."""
    return {key: copied(item) if isinstance(item, _HOLDERS) else item for key, item in value.items()}


@functools.cache
def models_by_field(model: type[Model]) -> dict[str, type[Model] | None]:
    """Wire name of each field → the model inside it, if there is one."""
    return {alias: inner for alias, inner, _ in _fields(model)}


def model_in(annotation: Any) -> type[Model] | None:
    """The one model inside an annotation such as ``Source``, ``list[Dependency]`` or ``AuthRequirement | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_in(part)) is not None), None)


def wire_name(model: type[BaseModel], field: str) -> str:
    """What a field is called on the wire."""
    return model.model_fields[field].alias or field


def _fill_value(inner: type[Model] | None, many: bool, value: Any) -> Any:
    if inner is None:
        return copied(value)
    if many and isinstance(value, list):
        return [fill(inner, item) if isinstance(item, dict) else copied(item) for item in value]
    return fill(inner, value) if isinstance(value, dict) else copied(value)


@functools.cache
def _fields(model: type[Model]) -> tuple[tuple[str, type[Model] | None, bool], ...]:
    """(wire name, model inside, whether a list) of each field."""
    return tuple(
        (wire_name(model, name), model_in(field.annotation), _is_list(field.annotation))
        for name, field in model.model_fields.items()
    )


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list


@functools.cache
def _standard(model: type[Model]) -> Json:
    """Wire name → default as a JSON value, for fields that have one other than null."""
    standard: Json = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            continue
        value = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(value, Model):
            standard[wire_name(model, name)] = fill(
                type(value), value.model_dump(mode="json", by_alias=True, exclude_unset=True)
            )
        elif value is not None:
            standard[wire_name(model, name)] = value.value if hasattr(value, "value") else copied(value)
    return standard


def _default_module(name: str, spec: Json) -> None:
    routing, source, entry = spec.get("routing"), spec.get("source"), spec.get("entryPoint")
    if isinstance(routing, dict) and not routing.get("namespace"):
        routing["namespace"] = name
    if isinstance(source, dict) and not source.get("path") and isinstance(entry, str):
        path = entry.partition(":")[0].partition(".")[0]
        others = {key: value for key, value in source.items() if key != "path"}
        spec["source"] = {"path": path, **others}  # in the model's order: equal specs are to be equal texts
