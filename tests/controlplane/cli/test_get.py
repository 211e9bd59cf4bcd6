"""`modplane get` and `modplane describe`: what is shown, in which form."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from controlplane.admission import composing
from controlplane.cli import printing
from controlplane.store.records import Record
from schemas.kits.clocks import SystemClock
from tests.doubles import apiparts
from tests.doubles.desk import Desk


def orders(desk: Desk, **spec: object) -> None:
    desk.run(desk.parts.apply(apiparts.module("orders", labels={"team": "shop"}, **spec)))


def test_a_table_has_the_servers_columns(desk: Desk) -> None:
    orders(desk)
    head, row = desk.type("get", "modules").out.splitlines()
    assert head.split() == ["NAME", "STATE", "READY", "VERSION", "PATH", "WORKERS", "AGE"]
    assert row.split()[:2] == ["orders", "DISCOVERED"]
    wide = desk.type("get", "module", "orders", "-o", "wide").out.splitlines()[0].split()
    assert wide[-3:] == ["SERVING", "TYPE", "REASON"]
    assert desk.type("get", "mod", "--no-headers").out.startswith("orders")


def test_names_json_and_yaml(desk: Desk) -> None:
    orders(desk, description="first\nsecond", version="1.0.0")
    assert desk.type("get", "modules", "-o", "name").out == "module/orders\n"
    one = json.loads(desk.type("get", "module/orders", "-o", "json").out)
    assert one["metadata"]["name"] == "orders"
    assert "managedFields" not in one["metadata"]
    many = json.loads(desk.type("get", "modules", "-o", "json").out)
    assert [item["kind"] for item in many["items"]] == ["Module"]
    text = desk.type("get", "module", "orders", "-o", "yaml").out
    assert text.startswith("# yaml-language-server: $schema=file://")
    (document,) = composing.compose(text.encode())
    assert document.value["spec"] == one["spec"]


def test_yaml_output_can_be_applied_again(desk: Desk) -> None:
    orders(desk)
    file = desk.file(desk.type("get", "module", "orders", "-o", "yaml").out)
    desk.type("validate", "-f", file)


def test_text_that_yaml_1_2_takes_for_a_number_is_quoted() -> None:
    value = {"a": "1e3", "b": "0o17", "c": "no", "d": "1.0", "e": "plain", "f": 5}
    text = printing.as_yaml(value)
    (document,) = composing.compose(text.encode())
    assert document.value == value
    assert yaml.safe_load(text) == value


def test_an_object_that_is_not_there_is_no(desk: Desk) -> None:
    assert '"nope" not found' in desk.type("get", "module", "nope", code=1).err
    assert desk.type("get", "organisations").err == "no organisations found\n"


def test_labels_select(desk: Desk) -> None:
    orders(desk)
    desk.run(desk.parts.apply(apiparts.module("bare")))
    assert desk.type("get", "modules", "-l", "team=shop", "-o", "name").out == "module/orders\n"
    assert "selector" in desk.type("get", "modules", "-l", "a b c", code=3).err.lower()


def test_several_kinds_and_names_with_underscores(desk: Desk) -> None:
    desk.run(desk.parts.apply(apiparts.module("two-words")))
    desk.run(desk.parts.apply(apiparts.organisation()))
    assert desk.type("get", "mod,org").out.count("AGE") == 2
    assert desk.type("get", "module/two_words", "org/acme", "-o", "name").out.split() == [
        "module/two-words",
        "organisation/acme",
    ]


def test_an_unknown_kind_is_a_usage_error_with_a_suggestion(desk: Desk) -> None:
    assert "did you mean 'modules'" in desk.type("get", "moduls", code=2).err
    assert "not both" in desk.type("get", "modules", "module/a", code=2).err
    assert "one kind" in desk.type("get", "mod,org", "-w", code=2).err


@pytest.mark.parametrize(
    ("form", "expected"), [((), "ACTIVE"), (("-o", "name"), "module/orders"), (("-o", "json"), "{")]
)
def test_watch_shows_each_change(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...], expected: str
) -> None:
    orders(desk)
    lines: list[str] = []

    def show(text: str) -> None:
        lines.append(text)
        if len(lines) == (2 if not form else 1):
            desk.report("orders", "ACTIVE")
        elif len(lines) > 2 or (form and len(lines) > 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(printing, "show", show)
    desk.type("get", "modules", "-w", *form, code=130)
    assert expected in lines[-1]


def test_describe_tells_what_a_module_waits_for(desk: Desk) -> None:
    orders(desk)
    desk.report(
        "orders",
        "VALIDATED",
        ("Valid", "True", "Inspected", "fine"),
        ("RoutesAccepted", "False", "RouteConflict", "GET / is held by module other"),
        routes=[{"method": "GET", "path": "/hello", "auth": "NONE"}],
    )
    out = desk.type("describe", "module", "orders").out
    assert "RoutesAccepted=False (RouteConflict): GET / is held by module other" in out
    assert "GET      http://127.0.0.1:8000/api/v1/modules/v1/orders/hello   NONE" in out
    assert "Labels:       team=shop" in out
    assert "now VALIDATED" in out
    assert "Workers: none" in out


def test_describe_of_another_kind_shows_its_fields(desk: Desk) -> None:
    desk.run(desk.parts.apply(apiparts.organisation(displayName="Acme Ltd")))
    assert "displayName: Acme Ltd" in desk.type("describe", "org/acme").out
    assert "NAME" in desk.type("describe", "org", code=2).err


def worker(name: str, **report: object) -> Record:
    status = {"report": {"state": "degraded", "address": f"http://{name}", **report}}
    return Record("Worker", name, f"uid-{name}", 1, 0, SystemClock().now(), status=status)


def test_describe_tells_what_each_worker_has_of_the_module(desk: Desk) -> None:
    orders(desk)
    rejected = [{"module": "orders", "reason": "RoutesDiffer", "message": "one route is missing"}]
    pending = [{"module": "orders", "reason": "LifespanFailed", "message": "no database"}]
    workers = [worker("w0", rejected=rejected), worker("w1", pending=pending), worker("w2")]
    desk.run(desk.parts.store.write(lambda tx: [tx.put(record) for record in workers]))
    serving = {"generation": 1, "version": "1.0.0", "since": "2026-01-01T00:00:00.000000Z"}
    routes = [{"method": "GET", "path": "/", "auth": "NONE"}]
    ready = ("Ready", "True", "Serving", "")
    desk.report("orders", "ACTIVE", ready, serving=serving, routes=routes, workers={"desired": 3, "applied": 1})
    out = desk.type("describe", "module/orders").out
    assert "rejected: RoutesDiffer one route is missing" in out
    assert "pending: LifespanFailed no database" in out
    assert "Serving:      generation 1, version 1.0.0, for" in out
    assert "Waits for:    nothing" in out
    assert "3 desired, 1 applied" in out
    assert "State:        degraded" in desk.type("describe", "worker", "w0").out


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (90, "90s"), (150, "2m30s"), (3_700, "1h1m"), (90_000, "1d1h"), (864_000, "10d")]
)
def test_ages(seconds: int, shown: str) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert printing.age(moment.isoformat(), moment + timedelta(seconds=seconds)) == shown


def test_an_age_that_is_not_known() -> None:
    assert printing.age(None, printing.now()) == "<unknown>"
