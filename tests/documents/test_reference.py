"""The reference names everything that there is, and nothing that there is not; what there is is read from the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from controlplane import settings as control_settings
from controlplane.api import answering
from controlplane.cli import exits, main
from dataplane import settings as data_settings
from schemas import conditions, kinds, names, publishing
from schemas.meta import ConditionStatus
from schemas.module import ModuleState
from tests.doubles import pages
from tests.doubles.pages import ROOT

CAMEL = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)*")

CAUSE = re.compile(r"Field(Value|Manager)[A-Z]|DocumentToo[A-Z]|SyntaxInvalid")

REASON_ROOMS = (
    "controlplane/reconcile",
    "controlplane/inspection",
    "controlplane/planning.py",
    "controlplane/writing.py",
    "controlplane/discovery",
    "schemas/conditions.py",
    "dataplane/inspection",
    "dataplane/runtime",
    "dataplane/agent",
    "controlplane/admission/conflicts.py",
)
"""Where reasons of conditions, events, pending and rejected modules are written."""


def commands() -> Iterator[tuple[str, click.Command]]:
    group = main.modplane
    for verb in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), verb)
        assert command is not None
        yield verb, command


# --- command line


@pytest.mark.parametrize(("verb", "command"), list(commands()), ids=[verb for verb, _ in commands()])
def test_every_command_has_a_section_with_exactly_its_options(verb: str, command: click.Command) -> None:
    told = pages.section(pages.reference("cli"), f"modplane {verb}")
    there = {name for option in command.params for name in [*option.opts, *option.secondary_opts] if name[0] == "-"}
    named = {word for code in pages.code_words(told) for word in re.findall(r"(?<![\w-])-{1,2}[A-Za-z][\w-]*", code)}
    assert named == there


@pytest.mark.parametrize(("verb", "command"), list(commands()), ids=[verb for verb, _ in commands()])
def test_every_default_of_an_option_is_told(verb: str, command: click.Command) -> None:
    told = pages.section(pages.reference("cli"), f"modplane {verb}")
    for row in pages.rows(told):
        for option in command.params:
            if option.opts[0] in row[0] and option.name in TOLD_DEFAULTS:
                assert row[1].strip("`") == str(option.default)


TOLD_DEFAULTS = ("timeout", "workers", "modules", "control_port", "data_port", "nats_port")


def test_the_exit_codes_are_told_as_the_program_tells_them() -> None:
    told = pages.rows(pages.section(pages.reference("cli"), "Exit codes"))
    assert [int(code) for code, _ in told] == list(exits.MEANINGS)


def test_every_kind_is_told_with_its_short_name() -> None:
    told = pages.reference("cli")
    for kind in kinds.KINDS:
        assert f"`{kind.plural}` (`{kind.short[0]}`)" in told


# --- settings


@pytest.mark.parametrize(
    ("heading", "module", "short"),
    [
        ("Control plane", control_settings, {}),
        ("Worker", data_settings, {"worker_id": "--id", "worker_labels": "--labels"}),
    ],
)
def test_every_setting_is_told_with_flag_default_and_meaning(heading: str, module: Any, short: dict[str, str]) -> None:
    told = {row[0]: row[1:] for row in pages.rows(pages.section(pages.reference("settings"), heading))}
    there = {}
    for name, field in module.Settings.model_fields.items():
        flag = short.get(name, "--" + name.replace("_", "-"))
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        meaning = " ".join((field.description or "").split()).replace("``", "`")
        there[f"`MODPLANE_{name.upper()}`"] = [f"`{flag}`", f"`{default}`" if default else "", meaning]
    assert told == there


# --- conditions and reasons


def reasons(places: tuple[str, ...]) -> dict[str, set[str]]:
    """Every text in the code of some rooms that may be a reason, with the files that have it.

    Kinds, condition types and statuses are none (a reason that is spelled as a condition is told as the condition),
    nor are causes of a ``Status``, which the API's page tells.
    """
    words = {*kinds.BY_NAME, *conditions.ORDER, *(status.value for status in ConditionStatus)}
    found = camel(places).items()
    return {word: files for word, files in found if word not in words and not CAUSE.match(word)}


def camel(places: tuple[str, ...]) -> dict[str, set[str]]:
    """Every CamelCase text that is a value, with the files that have it.

    Not counted: parts of messages, annotations, names of types, lists of nothing but words.
    """
    found: dict[str, set[str]] = {}
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            for word in texts(ast.parse(file.read_text())):
                if CAMEL.fullmatch(word):
                    found.setdefault(word, set()).add(file.relative_to(ROOT).as_posix())
    return found


def texts(tree: ast.AST) -> Iterator[str]:
    """String constants that are values."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr | ast.arg) or is_list_of_words(node):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("TypeVar", "type"):
            continue
        elif isinstance(node, ast.AnnAssign):
            yield from texts(ast.Expr(node.value)) if node.value is not None else ()
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in [*node.body, *node.decorator_list, node.args]:
                yield from texts(ast.Module([part], []) if isinstance(part, ast.stmt) else part)
        else:
            yield from texts(node)


def is_list_of_words(node: ast.AST) -> bool:
    if not isinstance(node, ast.Tuple | ast.List | ast.Set) or len(node.elts) < 2:
        return False
    return all(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in node.elts)


def told_reasons() -> set[str]:
    page = pages.reference("conditions")
    found = set()
    for heading in ("Reasons of conditions", "Reasons of the code", "Reasons of events"):
        found |= {row[0] for row in pages.rows(pages.section(page, heading))}
    return found


def test_every_reason_in_the_code_is_told() -> None:
    missing = {word: files for word, files in reasons(REASON_ROOMS).items() if word not in told_reasons()}
    assert missing == {}, "tell of these in docs/reference/conditions.md: what they mean, and what to do"


def test_every_told_reason_is_in_the_code() -> None:
    assert told_reasons() - set(reasons(REASON_ROOMS)) <= set(conditions.ORDER)


def test_reasons_are_found_where_they_are_written() -> None:
    code = (
        'T = TypeVar("T", "Note")\nWORDS = ("Counter", "Gauge")\n'
        'def f(a: "Note") -> "Note":\n    x: "Note" = "WasAssigned"\n    return put(f"Was{a}", True, "WasPut")\n'
        'def g():\n    return "WasReturned", f"with words"\n'
    )
    assert set(texts(ast.parse(code))) == {"WasAssigned", "WasPut", "WasReturned"}


def test_every_condition_of_a_reason_is_a_condition() -> None:
    told = pages.rows(pages.section(pages.reference("conditions"), "Reasons of conditions"))
    assert {word for row in told for word in row[1].split(", ")} <= set(conditions.ORDER)


def test_every_condition_and_state_is_told() -> None:
    page = pages.reference("conditions")
    assert [row[0] for row in pages.rows(pages.section(page, "Conditions"))] == list(conditions.ORDER)
    assert {row[0] for row in pages.rows(pages.section(page, "States"))} == {state.value for state in ModuleState}


# --- events


def test_every_event_type_is_told() -> None:
    page = pages.reference("events")
    states = [state.value.lower() for state in ModuleState]
    module = {row[0]: row[1] for row in pages.rows(pages.section(page, "Module events"))}
    assert module == {f"`dev.modplane.module.{state}.v1`": f"`{state}`" for state in states}
    worker = {row[0] for row in pages.rows(pages.section(page, "Worker events"))}
    assert worker == {f"`dev.modplane.worker.{what}.v1`" for what in publishing.WORKER_EVENTS}


def test_streams_and_buckets_are_told() -> None:
    page = pages.reference("events")
    for name in (names.STREAM_EVENTS, names.BUCKET_DESIRED, names.BUCKET_WORKERS, names.SUBJECT_BEAT):
        assert f"`{name}`" in page


def test_the_event_of_the_page_is_one_that_is_published() -> None:
    import json

    from schemas.events import CloudEvent, ModuleTransition, module_event

    (block,) = pages.blocks(ROOT / "docs" / "reference" / "events.md", "json")
    shown = json.loads(block.text)
    event = CloudEvent.model_validate(shown)
    transition = ModuleTransition.model_validate(event.data)
    assert set(shown) == set(module_event(transition).wire())
    assert shown["data"]["reason"] in told_reasons()
    assert event.id == f"{transition.uid}-{transition.sequence}"


# --- objects


def fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, field.annotation


@pytest.mark.parametrize("kind", [kind for kind in kinds.KINDS if kind.writable], ids=lambda kind: kind.name)
def test_every_field_of_a_spec_is_told(kind: kinds.Kind) -> None:
    told = pages.section(pages.reference("objects"), kind.name)
    listed = {word for row in pages.rows(told) for word in pages.code_words(row[0])}
    spec = kind.model.model_fields["spec"].annotation
    assert isinstance(spec, type)
    there = {name for name, _ in fields(spec)}
    assert {word.partition(".")[0] for word in listed} == there
    for name, annotation in fields(spec):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            words = {word for row in pages.rows(told) if f"`{name}" in row[0] for word in inner(row)}
            assert {inside for inside, _ in fields(annotation)} <= words, name


def inner(row: list[str]) -> set[str]:
    return {word for cell in row for code in pages.code_words(cell) for word in code.split(".")}


def test_every_kind_is_told_with_who_writes_it() -> None:
    told = pages.rows(pages.reference("objects"))
    for kind in kinds.KINDS:
        (row,) = [row for row in told if row[0].startswith(f"[{kind.name}]")]
        assert row[1] == f"`{kind.plural}`, `{kind.short[0]}`"
        assert ("control plane" in row[2]) is not kind.writable


# --- API


def test_every_address_of_the_control_plane_is_told(tmp_path: Path) -> None:
    from controlplane.api import apps

    told = pages.section(pages.reference("api"), "Control plane")
    listed = pages.code_words(told)
    for route in routes_of(apps):
        path = route.partition(" ")[2]
        assert route in listed or path in listed, route


def routes_of(apps: Any) -> list[str]:
    """``METHOD /path`` of every route that an application has, but FastAPI's own document."""

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return lambda *given, **more: {}

    api = apps.create_app(
        Anything(),
        clock=Anything(),
        sources=None,
        discoverer=Anything(),
        readiness=dict,
        info=dict,
        version="0",
        callers=Anything(),
        measured=Anything(),
        writer=Anything(),
    )
    refused = {f"{method} /apis/modplane.dev/v1/{{plural}}/{{name}}/status" for method in ("PUT", "PATCH")}
    refused |= {"DELETE /apis/modplane.dev/v1/{plural}", "GET /openapi.json"}
    found = {f"{method} {route.path}" for route in flat(api.app.routes) for method in route.methods or ()}
    found = {each for each in found - refused if not each.startswith("HEAD ")}
    assert len(found) > 20
    return sorted(found)


def flat(routes: Any) -> Iterator[Any]:
    from fastapi.routing import iter_route_contexts

    yield from iter_route_contexts(routes)


def test_every_reason_of_a_status_is_told_with_its_code() -> None:
    told = {
        (row[0], row[1]) for row in pages.rows(pages.section(pages.reference("api"), "Objects")) if row[0].isdigit()
    }
    there = {(str(code), f"`{reason}`") for code, reason in answering.REASONS.items()}
    assert told == there | {("409", "`AlreadyExists`"), ("500", "`InternalError`")}


def test_every_reason_of_a_cause_is_told() -> None:
    told = pages.code_words(pages.section(pages.reference("api"), "Objects"))
    written = camel(("controlplane/admission", "controlplane/writing.py", "controlplane/api", "schemas/problems.py"))
    assert {word for word in told if CAUSE.match(word)} == {word for word in written if CAUSE.match(word)}
