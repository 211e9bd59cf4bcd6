"""What is published equals the code, and says what the code does."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import validating
from schemas import kinds, publishing
from schemas.meta import Json


def test_the_published_files_are_those_of_the_code() -> None:
    assert publishing.stale() == [], "run python -m schemas.publishing"


def test_the_command_writes_checks_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publishing.main(["--check"], tmp_path) == 1
    assert "run python -m schemas.publishing" in capsys.readouterr().out
    (tmp_path / "old.json").write_text("{}")
    assert publishing.main([], tmp_path) == 0
    assert publishing.main(["--check"], tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(publishing.render())


@pytest.mark.parametrize("name", publishing.models())
def test_every_schema_is_one(name: str) -> None:
    schema = publishing.models()[name]
    if name != publishing.ASYNCAPI_FILE:
        assert schema["$schema"].endswith("2020-12/schema")
        assert schema["$id"].endswith(name)
        jsonschema_rs.Draft202012Validator(schema)


def test_editors_get_the_words_of_the_code() -> None:
    schema = publishing.object_schema(kinds.BY_NAME["Module"])
    spec = schema["$defs"]["ModuleSpec"]
    assert spec["additionalProperties"] is False
    assert spec["required"] == ["entryPoint"]
    assert spec["properties"]["suspend"]["description"] == "Freezes roll-out; routes keep serving, deletion works."
    assert schema["required"] == ["apiVersion", "kind", "metadata", "spec"]
    assert schema["properties"]["status"]["readOnly"] is True
    assert schema["$defs"]["ObjectMeta"]["properties"]["uid"]["readOnly"] is True


def test_the_modeline_names_the_file() -> None:
    kind = kinds.BY_NAME["Module"]
    assert publishing.modeline(kind, "http://127.0.0.1:7400/schemas") == (
        "# yaml-language-server: $schema=http://127.0.0.1:7400/schemas/module.schema.json"
    )
    assert publishing.schema_file(kind) in publishing.models()


def test_the_event_document_holds_together() -> None:
    document = publishing.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    channels = document["channels"]
    assert channels["moduleEvents"]["address"] == "modplane.events.module.{module}.{state}"
    assert "active" in channels["moduleEvents"]["parameters"]["state"]["enum"]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    for reference in references(document):
        if reference.startswith("#/"):
            place: Any = document
            for part in reference[2:].split("/"):
                place = place[part]
        else:
            assert reference.removeprefix("./") in publishing.models()


SPECS = st.fixed_dictionaries(
    {"entryPoint": st.sampled_from(["a:B", "a.b:C", "a", 1])},
    optional={
        "type": st.sampled_from(["core", "analytics", "x"]),
        "limits": st.fixed_dictionaries({}, optional={"maxThreads": st.sampled_from([1, 0, 5000, "1"])}),
        "suspend": st.sampled_from([True, "no"]),
        "auth": st.sampled_from([{"level": "NONE"}, {"level": "X"}, {"extra": 1}]),
        "unknown": st.just(1),
    },
)


@given(SPECS)
def test_what_admission_takes_the_editor_takes_and_types_are_refused_by_both(spec: Json) -> None:
    document = {"apiVersion": "modplane.dev/v1", "kind": "Module", "metadata": {"name": "thing"}, "spec": spec}
    schema = publishing.object_schema(kinds.BY_NAME["Module"])
    assert jsonschema_rs.is_valid(schema, document) == (validating.validate(document)[1] == [])
