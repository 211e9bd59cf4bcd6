"""`modplane diff`: what an apply would change, as the server works it out; nothing is stored."""

from tests.doubles.desk import Desk

ORDERS = """\
apiVersion: modplane.dev/v1
kind: Module
metadata: {name: orders, labels: {team: shop}}
spec:
  entryPoint: orders:Orders
"""


def test_nothing_differs_after_an_apply(desk: Desk) -> None:
    file = desk.file(ORDERS)
    desk.type("apply", "-f", file)
    said = desk.type("diff", "-f", file)
    assert (said.out, said.err) == ("", "")


def test_an_object_that_is_not_there_is_shown_whole_with_its_defaults(desk: Desk) -> None:
    said = desk.type("diff", "-f", desk.file(ORDERS), code=1)
    lines = said.out.splitlines()
    assert lines[:2] == ["--- /dev/null", "+++ module/orders (applied)"]
    assert "+  entryPoint: orders:Orders" in lines
    assert "+  loading: eager" in lines
    assert all(line[0] in "+-@" for line in lines)
    assert said.err == ""
    assert desk.stored("orders") is None


def test_a_change_of_spec_and_labels_shows_the_changed_lines_only(desk: Desk) -> None:
    desk.type("apply", "-f", desk.file(ORDERS))
    text = ORDERS.replace("team: shop", "team: insights") + "  version: 2.0.0\n"
    out = desk.type("diff", "-f", desk.file(text), code=1).out
    changed = [line for line in out.splitlines() if line[0] in "+-" and line[:3] not in ("---", "+++")]
    assert changed == ["-    team: shop", "+    team: insights", "-  version: 0.0.0", "+  version: 2.0.0"]
    stored = desk.stored("orders")
    assert stored is not None
    assert stored["spec"]["version"] == "0.0.0"


def test_prune_shows_what_would_be_deleted(desk: Desk) -> None:
    first = desk.file(ORDERS)
    desk.type("apply", "-f", first)
    desk.type("apply", "-f", desk.file(ORDERS.replace("name: orders", "name: older"), "older.yaml"))
    out = desk.type("diff", "-f", first, "--prune", "-l", "team=shop", code=1).out
    assert out.splitlines()[:2] == ["--- module/older (stored)", "+++ /dev/null"]
    assert "-  name: older" in out
    assert desk.stored("older") is not None


def test_a_refused_manifest_is_code_3_with_its_place(desk: Desk) -> None:
    bad = desk.file(ORDERS + "  dependancies: []\n")
    said = desk.type("diff", "-f", bad, code=3)
    assert f"{bad}:6:3" in said.err
    desk.type("apply", "-f", desk.file(ORDERS))
    spec = {"entryPoint": "orders:Orders", "version": "3.0.0"}
    body = {"apiVersion": "modplane.dev/v1", "kind": "Module", "metadata": {"name": "orders"}, "spec": spec}
    desk.run(desk.parts.apply(body, manager="ann"))
    theirs = desk.file(ORDERS + "  version: 2.0.0\n")
    said = desk.type("diff", "-f", theirs, code=3)
    assert "ann" in said.err
    assert "--force" in said.err
    assert "+  version: 2.0.0" in desk.type("diff", "-f", theirs, "--force", code=1).out


def test_what_cannot_be_compared_is_not_taken_for_a_difference(desk: Desk) -> None:
    assert "no such file" in desk.type("diff", "-f", "nowhere.yaml", code=2).err
    assert "-l LABELS" in desk.type("diff", "-f", desk.file(ORDERS), "--prune", code=2).err
    desk.type("diff", "-f", desk.file(ORDERS), "--server", "http://127.0.0.1:9", code=4)
