"""`modplane apply --prune`: what left the manifests goes, within guard rails."""

import sys

import click
import pytest

from controlplane.cli import pruning
from tests.doubles.desk import Desk


def module(name: str, team: str = "shop") -> str:
    return f"""\
apiVersion: modplane.dev/v1
kind: Module
metadata: {{name: {name}, labels: {{team: {team}}}}}
spec: {{entryPoint: "orders:Orders"}}
"""


def several(desk: Desk, *names: str, team: str = "shop") -> str:
    return desk.file("---\n".join(module(name, team) for name in names), "set.yaml")


def deleting(desk: Desk, name: str) -> bool:
    stored = desk.stored(name)
    return stored is None or "deletionTimestamp" in stored["metadata"]


def test_what_left_the_manifests_goes_and_the_rest_stays(desk: Desk) -> None:
    desk.type("apply", "-f", several(desk, "a", "b", "c"))
    desk.type("apply", "-f", desk.file(module("other", "insights"), "other.yaml"))
    out = desk.type("apply", "-f", several(desk, "a", "b"), "--prune", "-l", "team=shop").out
    assert out == "module/a unchanged\nmodule/b unchanged\nmodule/c pruned\n"
    assert deleting(desk, "c")
    assert not any(deleting(desk, name) for name in ("a", "b", "other"))
    assert "pruned" not in desk.type("apply", "-f", several(desk, "a", "b"), "--prune", "-l", "team=shop").out


def test_a_dry_run_shows_what_would_go(desk: Desk) -> None:
    desk.type("apply", "-f", several(desk, "a", "b"))
    out = desk.type("apply", "-f", several(desk, "a"), "--prune", "-l", "team=shop", "--dry-run").out
    assert out == "module/a unchanged (dry run)\nmodule/b pruned (dry run)\n"
    assert not deleting(desk, "b")


def test_more_than_a_small_share_is_refused_before_anything_is_applied(desk: Desk) -> None:
    desk.type("apply", "-f", several(desk, "a", "b", "c"))
    fresh = several(desk, "d")
    said = desk.type("apply", "-f", fresh, "--prune", "-l", "team=shop", code=1)
    assert "3 of 3 objects would be pruned, at most 1 without a word more" in said.err
    assert all(f"module/{name}" in said.err for name in "abc")
    assert "--prune-limit 3" in said.err
    assert desk.stored("d") is None
    said = desk.type("apply", "-f", fresh, "--prune", "-l", "team=shop", "--prune-limit", "2", code=1)
    assert "the limit is 2" in said.err
    desk.type("apply", "-f", fresh, "--prune", "-l", "team=shop", "--prune-limit", "3")
    assert all(deleting(desk, name) for name in "abc")


def test_yes_takes_them_all(desk: Desk) -> None:
    desk.type("apply", "-f", several(desk, "a", "b", "c"))
    assert desk.type("apply", "-f", several(desk, "a"), "--prune", "-l", "team=shop", "--yes").out.count("pruned") == 2


def test_what_another_manager_wrote_too_stays_and_is_told(desk: Desk) -> None:
    desk.type("apply", "-f", several(desk, "a", "b"))
    body = {
        "apiVersion": "modplane.dev/v1",
        "kind": "Module",
        "metadata": {"name": "b"},
        "spec": {"entryPoint": "orders:Orders", "version": "3.0.0"},
    }
    desk.run(desk.parts.apply(body, manager="ann"))
    foreign = {**body, "metadata": {"name": "foreign", "labels": {"team": "shop"}}}
    desk.run(desk.parts.apply(foreign, manager="ann"))
    said = desk.type("apply", "-f", several(desk, "a"), "--prune", "-l", "team=shop")
    assert "module/b stays: ann wrote it too" in said.err
    assert "pruned" not in said.out
    assert not deleting(desk, "b")
    assert not deleting(desk, "foreign")


def test_prune_needs_labels_and_labels_need_prune(desk: Desk) -> None:
    file = several(desk, "a")
    assert "--prune needs -l LABELS" in desk.type("apply", "-f", file, "--prune", code=2).err
    assert "give both, or neither" in desk.type("apply", "-f", file, "-l", "team=shop", code=2).err
    assert desk.stored("a") is None


def test_an_empty_set_prunes_nothing(desk: Desk) -> None:
    desk.type("apply", "-f", several(desk, "a"))
    assert "no manifest" in desk.type("apply", "-f", desk.file("# none\n"), "--prune", "-l", "team=shop", code=1).err
    (desk.home / "empty").mkdir()
    desk.type("apply", "-f", str(desk.home / "empty"), "--prune", "-l", "team=shop", code=1)
    assert not deleting(desk, "a")


def test_a_refused_manifest_prunes_nothing(desk: Desk) -> None:
    desk.type("apply", "-f", several(desk, "a", "b"))
    body = {"apiVersion": "modplane.dev/v1", "kind": "Module", "metadata": {"name": "a"}}
    desk.run(desk.parts.apply({**body, "spec": {"entryPoint": "orders:Orders", "version": "3.0.0"}}, manager="ann"))
    text = module("a").replace('"orders:Orders"', '"orders:Orders", version: 2.0.0')
    desk.type("apply", "-f", desk.file(text), "--prune", "-l", "team=shop", code=3)
    assert not deleting(desk, "b")


def test_wait_waits_until_what_was_pruned_is_gone(desk: Desk) -> None:
    desk.type("apply", "-f", several(desk, "a", "b"))
    desk.report("a", "ACTIVE")
    helper = desk.later(lambda: deleting(desk, "b"), lambda: desk.finish("b"))
    said = desk.type("apply", "-f", several(desk, "a"), "--prune", "-l", "team=shop", "--wait", "--timeout", "20s")
    helper.join()
    assert "module/b pruned\nmodule/b deleted\n" in said.out


@pytest.mark.parametrize(("word", "code", "gone"), [(True, 0, True), (False, 1, False)])
def test_on_a_terminal_a_person_is_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, word: bool, code: int, gone: bool
) -> None:
    desk.type("apply", "-f", several(desk, "a", "b"))
    asked: list[str] = []

    def confirm(text: str, **_: object) -> bool:
        asked.append(text)
        return word

    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    desk.type("apply", "-f", several(desk, "a"), "--prune", "-l", "team=shop", code=code)
    assert asked == ["Delete them?"]
    assert deleting(desk, "b") is gone


@pytest.mark.parametrize(("matching", "allowed"), [(1, 1), (4, 1), (10, 2), (49, 9), (50, 10), (5000, 10)])
def test_the_share_that_goes_without_a_word_more(matching: int, allowed: int) -> None:
    assert pruning.Plan((), (), matching).allowed == allowed
