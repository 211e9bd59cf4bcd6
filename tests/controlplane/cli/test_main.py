"""The command itself: help, exit codes, where output goes, what it costs to start."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from controlplane.cli import client, endpoints, exits, main, options, printing
from tests.doubles.desk import Desk

VERBS = [verb for verbs in main.SECTIONS.values() for verb in verbs]


@pytest.mark.parametrize("verb", VERBS)
def test_the_short_help_of_the_list_is_the_verbs_own(verb: str) -> None:
    command = main.modplane.get_command(click.Context(main.modplane), verb)
    assert command is not None
    listed = next(verbs[verb][1] for verbs in main.SECTIONS.values() if verb in verbs)
    assert command.short_help == listed


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("controlplane", "worker")])
def test_every_verb_has_help_with_examples_that_parse(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    command = main.modplane.get_command(click.Context(main.modplane), verb)
    assert isinstance(command, options.Verb)
    assert command.examples
    for example in command.examples:
        assert example in text
        words = example.rpartition("| ")[2].split()
        assert words[:2] == ["modplane", verb]
        command.make_context(verb, words[2:])


def test_help_lists_verbs_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in VERBS)
    assert all(meaning in text for meaning in exits.MEANINGS.values())


def test_help_imports_no_verb_and_no_model() -> None:
    code = (
        "import sys; from controlplane.cli import main; main.run(['--help']);"
        "heavy = {'httpx', 'pydantic', 'yaml', 'controlplane.cli.get', 'asyncio', 'rich'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_verb_is_a_usage_error_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["gett"]) == exits.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Did you mean 'get'?" in captured.err


def test_no_server_is_code_4_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["get", "modules", "--data-dir", str(tmp_path)]) == exits.UNREACHABLE
    assert "modplane up" in capsys.readouterr().err
    assert main.run(["get", "modules", "--server", "http://127.0.0.1:9"]) == exits.UNREACHABLE
    assert "nothing answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert main.run(["get", "modules", "--server", "localhost:9"]) == exits.USAGE


def test_a_reader_that_goes_away_interrupts_and_says_no_to_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(printing, "show", closed)
    desk.type("get", "modules", "-o", "json", code=exits.INTERRUPTED)


def test_settings_of_the_file_yield_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("MODPLANE_SERVER", None)
    (tmp_path / "modplane.env").write_text("MODPLANE_SERVER=http://127.0.0.1:9\nOTHER=1\n")
    assert main.run(["get", "modules"]) == exits.UNREACHABLE
    assert "127.0.0.1:9" in capsys.readouterr().err
    assert "OTHER" not in os.environ


def test_the_server_may_come_from_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints.remove(desk.home)
    monkeypatch.setenv("MODPLANE_SERVER", desk.url)
    desk.type("get", "modules")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), ("1.5m", 90)]
)
def test_durations(text: str, seconds: float) -> None:
    assert options.Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5d", "-3", "1m x"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.UsageError):
        options.Duration().convert(text, None, None)


def test_endpoints_survive_a_round_trip_and_nonsense_is_none(tmp_path: Path) -> None:
    found = endpoints.Endpoints("http://a", "http://b", "nats://c", ("http://d",))
    endpoints.write(tmp_path, found)
    assert endpoints.read(tmp_path) == found
    assert json.loads(endpoints.path(tmp_path).read_text())["controlPlane"] == "http://a"
    for nonsense in ("", "[]", '{"controlPlane": 1}', "\x00"):
        endpoints.path(tmp_path).write_text(nonsense)
        assert endpoints.read(tmp_path) is None
    endpoints.remove(tmp_path)
    endpoints.remove(tmp_path)
    assert endpoints.read(tmp_path) is None


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["version"]) == 0
    assert capsys.readouterr().out.startswith("modplane ")


def test_discover_lists_news_and_fails_for_refused_sources(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert '"found": 2' in desk.type("discover", "-o", "json").out
    answer = {"scanned": 3, "applied": ["a"], "unchanged": ["b"], "failed": [{"path": "c.py", "message": "line 3"}]}
    monkeypatch.setattr(client.Client, "discover", lambda self, prune: answer)
    said = desk.type("discover", code=1)
    assert said.out == "module/a applied\nmodule/b unchanged\n3 scanned, 1 unchanged, 1 refused\n"
    assert said.err == "c.py: line 3\n"


def test_discover_says_what_is_still_being_inspected(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"scanned": 3, "applied": ["a"], "inspecting": ["slow", "slower"]}
    monkeypatch.setattr(client.Client, "discover", lambda self, prune: answer)
    said = desk.type("discover").out
    assert said.startswith(
        "module/a applied\nStill being inspected: slow, slower. The next scan takes what they answer"
    )


def test_discover_says_what_is_gone_and_how_to_delete_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def discover(self: client.Client, prune: bool) -> dict[str, object]:
        asked.append(prune)
        gone = {"missing": ["a", "b"], "prunable": ["b"], "held": "the modules path is missing"}
        return {"scanned": 0, "deleted": ["b"]} if prune else {"scanned": 0, **gone}

    monkeypatch.setattr(client.Client, "discover", discover)
    said = desk.type("discover").out
    assert "module/a missing\nmodule/b missing\nNot deleted by itself: b (the modules path is missing)." in said
    assert "`modplane discover --prune`" in said
    assert "module/b deleted\n" in desk.type("discover", "--prune").out
    assert asked == [False, True]


@pytest.mark.parametrize(("verb", "package"), [("controlplane", "controlplane"), ("worker", "dataplane")])
def test_a_plane_takes_the_process_over(monkeypatch: pytest.MonkeyPatch, verb: str, package: str) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, words: called.append(words))
    main.run([verb, "--log-level", "debug", "--help"])
    ((_, *words),) = called
    assert package in words
    assert words[-3:] == ["--log-level", "debug", "--help"]
