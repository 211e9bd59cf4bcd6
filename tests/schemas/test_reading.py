"""One set of models, two ways of reading: tolerant on the wire, strict at the door."""

import copy
import json
from typing import Any

import pytest
from pydantic import ValidationError

from schemas import kinds
from schemas.flag import FeatureFlag
from schemas.meta import Json, Model, now_text
from schemas.module import DesiredModule, Module, ModuleSpec
from schemas.organisation import ModuleAccess
from schemas.problems import Status, problem
from schemas.reports import WorkerReport

SPECS: dict[str, Json] = {
    "Module": {"entryPoint": "a.b:C"},
    "ModuleAccess": {"organisation": "o", "module": "m"},
    "Revocation": {"issuer": "https://login.example", "subject": "s"},
    "ModuleEvent": {
        "module": "m",
        "uid": "u",
        "sequence": 1,
        "generation": 1,
        "to": "DISCOVERED",
        "reason": "Stored",
        "at": "2030-01-01T00:00:00Z",
    },
}


def document(kind: str, **more: Any) -> Json:
    return {"apiVersion": "modplane.dev/v1", "kind": kind, "spec": SPECS.get(kind, {}), **more}


def strict(model: type[Model], value: Json) -> Model:
    return model.model_validate_json(json.dumps(value), strict=True, extra="forbid", by_alias=True, by_name=False)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_a_newer_writers_fields_are_ignored_on_the_wire(kind: kinds.Kind) -> None:
    newer = document(kind.name, fresh=1, metadata={"name": "x", "fresh": [1]})
    plain = document(kind.name, metadata={"name": "x"})
    assert kind.model.model_validate(newer) == kind.model.model_validate(plain)


@pytest.mark.parametrize("kind", [kind for kind in kinds.KINDS if kind.writable], ids=lambda kind: kind.name)
def test_the_same_fields_are_refused_at_the_door(kind: kinds.Kind) -> None:
    strict(kind.model, document(kind.name, metadata={"name": "x"}))
    with pytest.raises(ValidationError):
        strict(kind.model, document(kind.name, metadata={"name": "x", "fresh": 1}))


def test_the_door_takes_wire_names_and_exact_types_only() -> None:
    for spec in ({"entry_point": "a:B"}, {"entryPoint": "a:B", "suspend": "no"}, {"entryPoint": "a:B", "type": 1}):
        with pytest.raises(ValidationError):
            strict(Module, {**document("Module"), "spec": spec})
    assert ModuleSpec(entry_point="a:B") == ModuleSpec.model_validate({"entryPoint": "a:B"})


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_what_is_written_is_read_again(kind: kinds.Kind) -> None:
    model = kind.model.model_validate(document(kind.name, metadata={"name": "x", "labels": {"a": "b"}}))
    assert kind.model.model_validate(model.wire()) == model
    assert strict(kind.model, model.wire()) == model


def test_a_module_says_where_it_is_and_where_its_code_lies() -> None:
    spec = ModuleSpec.model_validate({"entryPoint": "pack.inner:C"})
    assert (spec.namespace("thing"), spec.source_path()) == ("thing", "pack")
    other = ModuleSpec.model_validate(
        {"entryPoint": "pack:C", "routing": {"namespace": "n"}, "source": {"path": "team/pack"}}
    )
    assert (other.namespace("thing"), other.source_path()) == ("n", "team/pack")
    desired = DesiredModule(entry_point="a:B", digest="d", source_path="a", api_version="v2", namespace="n")
    assert desired.prefix() == "/api/v1/modules/v2/n"


def test_nobody_changes_what_was_read() -> None:
    access = ModuleAccess.model_validate(document("ModuleAccess"))
    with pytest.raises(ValidationError):
        setattr(access, "spec", access.spec)  # noqa: B010 (the type checker refuses it as an assignment, too)


def test_defaults_are_not_shared() -> None:
    FeatureFlag().spec.variants["x"] = 1
    FeatureFlag().metadata.labels["x"] = "y"
    assert FeatureFlag().spec.variants == {"on": True, "off": False}
    assert FeatureFlag().metadata.labels == {}


def test_a_deep_copy_is_equal_and_shares_nothing() -> None:
    first = FeatureFlag.model_validate({"metadata": {"labels": {"a": "b"}}, "spec": {"variants": {"x": [1, {"y": 2}]}}})
    second = copy.deepcopy(first)
    assert second == first
    assert second.model_fields_set == first.model_fields_set
    second.metadata.labels["a"] = "c"
    second.spec.variants["x"][1]["y"] = 3
    assert (first.metadata.labels, first.spec.variants) == ({"a": "b"}, {"x": [1, {"y": 2}]})


def test_time_has_one_spelling() -> None:
    report = WorkerReport.model_validate(
        {"id": "w", "boot": "b", "startedAt": "2030-01-01T01:00:00+01:00", "reportedAt": "2030-01-01T00:00:00Z"}
    )
    assert now_text(report.started_at) == now_text(report.reported_at) == "2030-01-01T00:00:00.000000Z"


def test_errors_over_http_have_their_two_forms() -> None:
    assert problem(404, "Not found", "no such route", instance="/x") == {
        "type": "about:blank",
        "title": "Not found",
        "status": 404,
        "detail": "no such route",
        "instance": "/x",
        "errors": [],
        "retryable": False,
    }
    assert Status(reason="NotFound", code=404).wire()["apiVersion"] == "v1"
