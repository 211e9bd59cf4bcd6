"""What the README shows of tokens, line by line in a shell, and what the greeting of `modplane up` offers to type."""

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.cli import endpoints, greeting
from tests.doubles import pages
from tests.doubles.pages import ROOT
from tests.doubles.platform import Platform, running

pytestmark = pytest.mark.processes

README = ROOT / "README.md"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """`modplane up` as the README has it: the examples are found by themselves."""
    with running(tmp_path_factory.mktemp("tokens")) as started:
        started.wait_state("analytics-core", "ACTIVE", timeout=60.0)
        yield started


def shell(platform: Platform, lines: list[str], folder: Path) -> str:
    """Run lines as a person in a terminal, with `modplane` on the path; returns what was printed."""
    program = folder / "modplane"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m controlplane.cli.main "$@"\n')
    program.chmod(0o755)
    environment = {**platform.environment, "MODPLANE_DATA_DIR": str(platform.data), "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    text = "\n".join(["set -eu", *lines])
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def guarded_lines() -> list[tuple[list[str], str]]:
    """The guarded calls of the README, each with the lines before it in its block, and what it says comes of it."""
    found = []
    for block in pages.blocks(README, "sh"):
        lines = block.text.replace("\\\n", " ").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("curl -i"):
                before = [each for each in lines[:number] if each.startswith("TOKEN=")]
                found.append(([*before, line], lines[number + 1].removeprefix("# ")))
    return found


def test_the_guarded_calls_of_the_readme_are_answered_as_it_says(platform: Platform, tmp_path: Path) -> None:
    shown = guarded_lines()
    assert [said for _, said in shown] == ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 200 OK", "HTTP/1.1 403 Forbidden"]
    for lines, said in shown:
        here = [line.replace("http://127.0.0.1:8000", platform.door) for line in lines]
        assert shell(platform, here, tmp_path).splitlines()[0].strip() == said


def test_what_up_offers_to_type_works(platform: Platform, tmp_path: Path) -> None:
    found = endpoints.read(platform.data)
    assert found is not None
    told: list[str] = []
    asyncio.run(greeting.greet(found, platform.data, told.append))
    lines = [line.strip() for line in told]
    (start,) = (number for number, line in enumerate(lines) if line.endswith("# 401: this route asks for a token"))
    refused, token, allowed = lines[start : start + 3]
    assert allowed.endswith("# 200")
    token = re.sub(r"\(.* token create", "(modplane token create", token)
    assert "HTTP/1.1 401 Unauthorized" in shell(platform, [refused], tmp_path)
    assert "HTTP/1.1 200 OK" in shell(platform, [token, allowed], tmp_path)
    assert (platform.data / "auth" / "development.pem").stat().st_mode & 0o777 == 0o600
