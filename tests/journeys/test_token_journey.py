"""What the README shows of tokens, line by line in a shell, and what the greeting of `modplane up` offers to type."""

import asyncio
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.cli import endpoints, greeting
from tests.doubles import pages
from tests.doubles.pages import ROOT
from tests.doubles.platform import Platform, running, wait_for
from tests.doubles.polling import until_sync

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
            if line.startswith("curl -i") and "#" not in line:
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


def test_each_decision_is_exactly_one_record_and_nothing_else_is(platform: Platform) -> None:
    reader = platform.cli("token", "create", "--sub", "rita", "--permission", "read_analytics").strip()
    nobody = platform.cli("token", "create", "--sub", "nina").strip()
    calls = {
        "r-200": ("v1/analytics-core/dashboard/overview", reader, 200, ("allow", "Allowed", "rita")),
        "r-403": ("v1/analytics-core/dashboard/overview", nobody, 403, ("deny", "PermissionMissing", "nina")),
        "r-401": ("v1/analytics-core/dashboard/overview", "", 401, ("deny", "NoCredentials", None)),
        "r-bad": ("v1/analytics-core/dashboard/overview", f"{reader[:-4]}AAAA", 401, ("deny", "SignatureWrong", None)),
        "r-404": ("v1/analytics-core/nothing", reader, 404, None),
        "r-open": ("v1/analytics-core/summary", reader, 200, None),
    }
    for request, (path, token, status, _) in calls.items():
        headers = {"x-request-id": request} | ({"authorization": f"Bearer {token}"} if token else {})
        assert platform.call(path, headers=headers).status_code == status
    expected = {request: said for request, (*_, said) in calls.items() if said is not None}

    def told() -> list[tuple[str, Any]]:
        url = f"{platform.control}/api/v1/module-management/audit"
        records = platform.admin.get(url, params={"limit": 1000}).json()["records"]
        mine = [each for each in records if each.get("request", "").startswith("r-")]
        return [(each["request"], (each["outcome"], each["reason"], each.get("subject"))) for each in mine]

    until_sync(lambda: len(told()) >= len(expected), what="the records arrive")
    assert sorted(told()) == sorted(expected.items())


def readme_tour() -> list[str]:
    """The tour as the README has it."""
    (block,) = (block for block in pages.blocks(README, "sh") if "_tour" in block.text)
    return block.text.splitlines()


def printed_tour(platform: Platform) -> list[str]:
    """The tour as `modplane up` prints it, which it does once it is ready."""
    wait_for(lambda: "Ctrl-C stops everything." in platform.output(), what=platform.output)
    told = [line.strip() for line in platform.output().splitlines()]
    start = next(number for number, line in enumerate(told) if line.endswith("the audit trail of all that:"))
    return told[start + 1 : told.index("Ctrl-C stops everything.", start)]


def typed(line: str, tour: str) -> str:
    """A printed line for a shell that has `modplane` on its path, with the folder of the tour at ``tour``."""
    line = re.sub(r"(?:MODPLANE_DATA_DIR=\S+ )?[^\s($]*(?:modplane|main\.py) (apply|token|audit)", r"modplane \1", line)
    return re.sub(r"[^\s($]+/_tour", tour, line)


def test_the_tour_that_up_prints_is_the_readmes(platform: Platform) -> None:
    def plain(line: str) -> str:
        return re.sub(r"http://127\.0\.0\.1:\d+", "DOOR", typed(line, "_tour"))

    assert [plain(line) for line in printed_tour(platform)] == [plain(line) for line in readme_tour()]


@pytest.mark.slow
def test_the_tour_shows_what_it_says_and_the_audit_trail_has_all_of_it(platform: Platform, tmp_path: Path) -> None:
    """Every line is typed as it is printed; a call is repeated until a change has reached the worker."""
    tokens: list[str] = []
    for printed in printed_tour(platform):
        line = typed(printed, str(platform.modules / "_tour"))
        if line.startswith(("ADA=", "BOB=")):
            tokens.append(line)
        elif line.startswith("curl"):
            until_sync(functools.partial(answered, platform, tmp_path, tokens, line), what=line, timeout=60.0)
        elif " audit " in line:
            until_sync(functools.partial(audited, platform, tmp_path, line), what=line, timeout=60.0)
        else:
            shell(platform, [line], tmp_path)
    assert "records in" in shell(platform, ["modplane audit verify"], tmp_path)


def answered(platform: Platform, folder: Path, tokens: list[str], line: str) -> bool:
    """Whether a call comes to what its line says."""
    status = line.rpartition("# ")[2][:3]
    return f"HTTP/1.1 {status}" in shell(platform, [*tokens, line], folder)


def audited(platform: Platform, folder: Path, line: str) -> bool:
    """Whether the audit trail shows the five calls in their order."""
    wanted = [
        r"deny  401  NoCredentials  nobody",
        r"allow 200  Allowed  ada of acme",
        r"deny  403  NoAccess \(globex\)  bob of globex",
        r"deny  403  FlagDisabled \(team-dashboard\)  ada of acme",
        r"allow 200  Allowed  ada of acme",
    ]
    return re.search(r"(?s)" + ".*".join(wanted), shell(platform, [line], folder)) is not None
