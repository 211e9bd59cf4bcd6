"""`modplane apply` and `modplane validate`: one line per object, problems by file, line and column."""

import io
import sys
from typing import Any

import pytest

from controlplane.cli import client
from schemas.meta import Json
from tests.doubles.desk import Desk

ORDERS = """\
apiVersion: modplane.dev/v1
kind: Module
metadata: {name: orders}
spec:
  entryPoint: orders:Orders
"""
WRONG = """\
apiVersion: modplane.dev/v1
kind: Module
metadata: {name: orders}
spec:
  entryPoint: orders:Orders
  dependancies: []
"""


def test_apply_says_created_then_unchanged_then_configured(desk: Desk) -> None:
    file = desk.file(ORDERS)
    assert desk.type("apply", "-f", file).out == "module/orders created\n"
    assert desk.type("apply", "-f", file).out == "module/orders unchanged\n"
    desk.file(ORDERS + "  version: 2.0.0\n")
    assert desk.type("apply", "-f", file).out == "module/orders configured\n"


OTHER = ORDERS.replace("orders}", "other, labels: {team: a}}")


def test_a_problem_names_file_line_and_column_and_the_good_ones_are_applied(desk: Desk) -> None:
    good, bad = desk.file(OTHER, "good.yaml"), desk.file(WRONG + "  zzz: 1\n", "bad.yaml")
    said = desk.type("apply", "-f", bad, "-f", good, code=1)
    assert f"{bad}:6:3: /spec/dependancies" in said.err
    assert "Did you mean 'dependencies'?" in said.err
    assert f"{bad}:7:3: /spec/zzz" in said.err
    assert "2 problems: 1 of 2 manifests left out, the others applied" in said.err
    assert said.out == "module/other created\n"
    assert desk.stored("other") is not None
    assert desk.stored("orders") is None


def test_nothing_is_sent_if_no_manifest_is_good_or_if_something_is_to_be_pruned(desk: Desk) -> None:
    good, bad = desk.file(OTHER, "good.yaml"), desk.file(WRONG, "bad.yaml")
    assert "1 problem; nothing was applied" in desk.type("apply", "-f", bad, code=1).err
    desk.type("apply", "-f", desk.file(OTHER.replace("other", "older"), "older.yaml"))
    said = desk.type("apply", "-f", good, "-f", bad, "--prune", "-l", "team=a", "--yes", code=1)
    assert "nothing was applied" in said.err
    assert desk.stored("other") is None
    assert desk.stored("older") is not None


def test_a_name_given_twice_is_told_with_both_places(desk: Desk) -> None:
    first, second = desk.file(ORDERS, "a.yaml"), desk.file("# again\n" + ORDERS, "b.yaml")
    for verb in ("apply", "validate"):
        said = desk.type(verb, "-f", first, "-f", second, code=1)
        line = f"{second}:4:18: /metadata/name: module/orders stands at {first}:3:18 already; keep one of the two."
        assert line in said.out + said.err


@pytest.mark.parametrize(("items", "size", "requests"), [(3, 1_000_000, 3), (100, 300, 4)])
def test_a_long_list_goes_in_several_requests_and_each_is_answered_in_order(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, items: int, size: int, requests: int
) -> None:
    monkeypatch.setattr(client, "APPLIED_ITEMS", items)
    monkeypatch.setattr(client, "APPLIED_BYTES", size)
    sent = []
    request = client.Client.request

    def spied(self: client.Client, *words: Any, **more: Any) -> Json:
        sent.append(words)
        return request(self, *words, **more)

    monkeypatch.setattr(client.Client, "request", spied)
    text = "---\n".join(ORDERS.replace("orders}", f"m{index}}}") for index in range(8))
    said = desk.type("apply", "-f", desk.file(text + "---\n" + WRONG), code=1)
    assert said.out.split() == [word for index in range(8) for word in (f"module/m{index}", "created")]
    assert len(sent) == requests
    assert desk.type("diff", "-f", desk.file(text)).out == ""


@pytest.mark.slow
def test_of_ten_thousand_documents_the_good_ones_are_applied_and_each_bad_one_is_told(desk: Desk) -> None:
    good = "apiVersion: modplane.dev/v1\nkind: Organisation\nmetadata: {name: org-%d}\nspec: {displayName: Number %d}\n"
    bad = "apiVersion: modplane.dev/v1\nkind: Organisation\nmetadata: {name: org-%d}\nspec: {displayNam: Number %d}\n"
    broken = "# org-%d\nspec: [%d\nmore: *x\n"
    kinds = [good] * 38 + [bad, broken]
    file = desk.file("---\n".join(kinds[index % 40] % (index, index) for index in range(10_000)))
    said = desk.type("apply", "-f", file, code=1)
    assert said.out.count(" created\n") == 9_500
    lines = said.err.splitlines()
    assert len([line for line in lines if line.startswith(f"{file}:")]) == 500
    assert f"{file}:194:8: /spec/displayNam: spec.displayNam is not a field" in said.err
    assert "Did you mean 'displayName'?" in lines[0]
    assert "500 problems: 500 of 10000 manifests left out, the others applied" in said.err
    assert desk.type("apply", "-f", file, code=1).out.count(" unchanged\n") == 9_500


def test_validate_needs_no_server_and_lists_good_and_bad(desk: Desk) -> None:
    good, bad = desk.file(ORDERS, "good.yaml"), desk.file(WRONG + "---\nkind: [\n", "bad.yaml")
    said = desk.type("validate", "-f", good, "-f", bad, code=1)
    assert f"{good}: module/orders is valid" in said.out
    assert f"{bad}:6:3: /spec/dependancies" in said.out
    assert f"{bad}:8:" in said.out or f"{bad}:9:" in said.out
    assert "2 problems" in said.err
    assert desk.type("validate", "-f", good).err == ""


def test_apply_reads_standard_input(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ORDERS.encode())))
    assert desk.type("apply", "-f", "-").out == "module/orders created\n"


def test_a_folder_means_its_manifests_and_those_beside_code(desk: Desk) -> None:
    desk.file(ORDERS, "all/one.yaml")
    desk.file(ORDERS.replace("name: orders", "name: beside"), "all/beside/module.yaml")
    desk.file("deeper: true", "all/beside/other.yaml")
    desk.file("not a manifest", "all/readme.md")
    said = desk.type("apply", "-f", str(desk.home / "all"))
    assert sorted(said.out.split()) == ["created", "created", "module/beside", "module/orders"]
    assert "beside/other.yaml:1:1" in desk.type("apply", "-f", str(desk.home / "all"), "-R", code=1).err


def test_a_missing_file_an_empty_folder_and_an_empty_file_are_told(desk: Desk) -> None:
    assert "no such file" in desk.type("apply", "-f", "nowhere.yaml", code=1).err
    (desk.home / "empty").mkdir()
    assert "-R" in desk.type("apply", "-f", str(desk.home / "empty"), code=1).err
    assert "no manifest" in desk.type("apply", "-f", desk.file("# nothing\n"), code=1).err
    assert "-f FILE" in desk.type("apply", code=2).err


def test_a_dry_run_stores_nothing(desk: Desk) -> None:
    assert desk.type("apply", "-f", desk.file(ORDERS), "--dry-run").out == "module/orders created (dry run)\n"
    assert desk.stored("orders") is None


def test_a_field_of_another_manager_is_refused_with_its_name_and_force_takes_it(desk: Desk) -> None:
    desk.type("apply", "-f", desk.file(ORDERS))
    body = {
        "apiVersion": "modplane.dev/v1",
        "kind": "Module",
        "metadata": {"name": "orders"},
        "spec": {"entryPoint": "orders:Orders", "version": "3.0.0"},
    }
    desk.run(desk.parts.apply(body, manager="ann"))
    file = desk.file(ORDERS + "  version: 2.0.0\n")
    said = desk.type("apply", "-f", file, code=3)
    assert "ann" in said.err
    assert f"{file}:6:" in said.err
    assert "--force" in said.err
    assert desk.type("apply", "-f", file, "--force").out == "module/orders configured\n"


def test_apply_wait_returns_when_the_stored_generation_is_active(desk: Desk) -> None:
    helper = desk.later(lambda: desk.stored("orders") is not None, lambda: desk.report("orders", "ACTIVE"))
    said = desk.type("apply", "-f", desk.file(ORDERS), "--wait", "--timeout", "20s")
    helper.join()
    assert said.out == "module/orders created\nmodule/orders is ACTIVE\n"


def test_apply_wait_ends_at_once_on_a_lasting_error(desk: Desk) -> None:
    trouble = ("Stalled", "True", "ImportFailed", "orders.py:3: no module named 'nope'")
    helper = desk.later(lambda: desk.stored("orders") is not None, lambda: desk.report("orders", "ERROR", trouble))
    said = desk.type("apply", "-f", desk.file(ORDERS), "--wait", "--timeout", "60s", code=1)
    helper.join()
    assert "ImportFailed: orders.py:3" in said.err
    assert "modplane describe" in said.err
