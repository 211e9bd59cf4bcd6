"""`modplane wait` and `modplane delete`: patience with an end."""

import pytest

from controlplane.cli import exits, waiting
from tests.doubles import apiparts
from tests.doubles.desk import Desk

READY = ("Ready", "True", "Serving", "")


def orders(desk: Desk) -> None:
    desk.run(desk.parts.apply(apiparts.module("orders")))


@pytest.mark.parametrize("goal", ["state=ACTIVE", "state=active", "condition=Ready", "condition=ready=true"])
def test_a_goal_that_holds_already_returns_at_once(desk: Desk, goal: str) -> None:
    orders(desk)
    desk.report("orders", "ACTIVE", READY)
    assert desk.type("wait", "module", "orders", f"--for={goal}").out.startswith("module/orders ")


def test_a_goal_that_comes_is_waited_for(desk: Desk) -> None:
    orders(desk)
    helper = desk.later(lambda: True, lambda: desk.report("orders", "ACTIVE", READY))
    desk.type("wait", "modules", "--all", "--for=state=ACTIVE", "--for=condition=Ready", "--timeout=20s")
    helper.join()


def test_the_deadline_is_code_5_and_says_what_is_missing(desk: Desk) -> None:
    orders(desk)
    desk.report("orders", "REGISTERED", ("Programmed", "False", "NoWorkers", "no worker reports"))
    said = desk.type("wait", "module", "orders", "--for=state=ACTIVE", "--timeout=300ms", code=5)
    assert "module/orders: REGISTERED; waits for Programmed=False (NoWorkers): no worker reports" in said.err


def test_a_lasting_error_is_code_1_unless_it_is_what_was_asked_for(desk: Desk) -> None:
    orders(desk)
    desk.report("orders", "ERROR", ("Stalled", "True", "ImportFailed", "orders.py:1"))
    assert "ImportFailed" in desk.type("wait", "module", "orders", "--for=state=ACTIVE", code=1).err
    desk.type("wait", "module", "orders", "--for=state=ERROR")
    desk.type("wait", "module", "orders", "--for=condition=Stalled")


def test_an_absent_object_is_no_and_for_delete_it_is_yes(desk: Desk) -> None:
    assert "not there" in desk.type("wait", "module", "orders", "--for=state=ACTIVE", code=1).err
    assert desk.type("wait", "module", "orders", "--for=delete").out == "module/orders condition met: delete\n"


def test_an_old_observation_does_not_count(desk: Desk) -> None:
    orders(desk)
    desk.report("orders", "ACTIVE", READY)
    desk.run(desk.parts.apply(apiparts.module("orders", version="2.0.0")))
    desk.type("wait", "module", "orders", "--for=condition=Ready", "--timeout=300ms", code=5)


@pytest.mark.parametrize("goal", ["ready", "state=", "state=HAPPY", "condition=Ready=maybe", "jsonpath=x"])
def test_a_goal_that_makes_no_sense_is_a_usage_error(goal: str) -> None:
    with pytest.raises(exits.Exit) as raised:
        waiting.parse(goal)
    assert raised.value.code == exits.USAGE


def test_wait_wants_names_or_all(desk: Desk) -> None:
    assert "--all" in desk.type("wait", "modules", "--for=state=ACTIVE", code=2).err


def test_delete_waits_until_the_object_is_gone(desk: Desk) -> None:
    orders(desk)
    helper = desk.later(
        lambda: "deletionTimestamp" in (desk.stored("orders") or {"metadata": {}})["metadata"],
        lambda: desk.finish("orders"),
    )
    assert desk.type("delete", "module", "orders").out == "module/orders deleted\n"
    helper.join()
    assert "not found" in desk.type("delete", "module", "orders", code=1).err
    desk.type("delete", "module", "orders", "--ignore-not-found")


def test_delete_without_waiting_and_what_holds_the_object(desk: Desk) -> None:
    orders(desk)
    assert "deletion asked for" in desk.type("delete", "module/orders", "--no-wait").out
    assert "Held by:      modplane.dev/routes" in desk.type("describe", "module/orders").out
    assert desk.type("delete", "module/orders", "--timeout", "200ms", code=5).err.startswith("modplane: delete was not")


def test_delete_takes_the_names_from_manifests(desk: Desk) -> None:
    desk.run(desk.parts.apply(apiparts.organisation()))
    desk.run(desk.parts.apply(apiparts.organisation("globex")))
    text = "apiVersion: modplane.dev/v1\nkind: Organisation\nmetadata: {name: %s}\n"
    file = desk.file(text % "acme" + "---\n" + text % "globex")
    assert desk.type("delete", "-f", file).out.split() == [
        "organisation/globex", "deleted", "organisation/acme", "deleted",
    ]  # fmt: skip
    assert "no kind" in desk.type("delete", "-f", desk.file("kind: 5\n", "x.yaml"), code=1).err


def test_delete_wants_one_kind_of_names(desk: Desk) -> None:
    assert "one of both" in desk.type("delete", code=2).err
    assert "delete modules NAME" in desk.type("delete", "modules", code=2).err


def test_a_flag_that_a_module_requires_is_deleted_with_force_only(desk: Desk) -> None:
    desk.run(desk.parts.apply(apiparts.module(auth={"featureFlags": ["new_search"]})))
    desk.run(desk.parts.apply(apiparts.flag("new-search")))
    said = desk.type("delete", "flag", "new-search", code=3)
    assert "is required by Module orders, whose routes would be closed without it" in said.err
    assert desk.type("delete", "flag", "new-search", "--force").out == "featureflag/new-search deleted\n"
