"""The modules path lives: what is saved serves, what goes is deleted within guard rails, and people are told."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.platform import Platform, manifest, module_source, running, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

NAMES = [f"live_{number}" for number in range(6)]


def started_with(home: Path, names: Sequence[str], **environment: str) -> Platform:
    platform = Platform(home, examples=False, environment=environment)
    for name in names:
        save(platform, name)
    platform.start()
    return platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Six discovered modules."""
    platform = started_with(tmp_path, NAMES)
    try:
        for name in NAMES:
            platform.wait_state(shown(name), "ACTIVE")
        yield platform
    finally:
        platform.stop()
        platform.http.close()


def shown(name: str) -> str:
    return name.replace("_", "-")


def save(platform: Platform, name: str, say: str = "hello") -> None:
    (platform.modules / f"{name}.py").write_text(module_source(name, say=say))


def says(platform: Platform, name: str) -> Any:
    return platform.call(f"v1/{shown(name)}/hello").json().get("say")


def generation(platform: Platform, name: str) -> int:
    stored = platform.object("modules", shown(name))
    assert stored is not None
    return int(stored["metadata"]["generation"])


def told(platform: Platform, name: str) -> dict[str, Any]:
    """The condition SourceCurrent, if it is there."""
    stored = platform.object("modules", shown(name))
    assert stored is not None
    found = {each["type"]: each for each in stored["status"]["conditions"]}
    assert found["Ready"]["status"] == "True", found
    return dict(found.get("SourceCurrent", {}))


def test_the_life_of_a_modules_path(platform: Platform) -> None:
    first, second, mine, *others = NAMES

    # a save is a new generation, and serves
    save(platform, first, "saved")
    wait_for(lambda: says(platform, first) == "saved", what=platform.output)
    assert [generation(platform, name) for name in (first, second)] == [2, 1]

    # a half-written file waits until it is quiet: one generation, and no error on the way
    text = module_source(second, say="whole")
    with (platform.modules / f"{second}.py").open("w") as file:
        for start in range(0, len(text), 40):
            file.write(text[start : start + 40])
            file.flush()
            wait_for(lambda: says(platform, second) == "hello")
    wait_for(lambda: says(platform, second) == "whole", what=platform.output)
    assert generation(platform, second) == 2
    history = platform.admin.get(
        f"{platform.control}/api/v1/module-management/modules/registration-history?module={second}"
    )
    assert "error" not in {event["state"] for event in history.json()["events"]}

    # a person's pin: newer code is only reported
    stored = platform.object("modules", shown(mine))
    assert stored is not None
    pinned = manifest(mine, source={"digest": stored["spec"]["source"]["digest"]})
    platform.cli("apply", "-f", "-", "--wait", stdin=pinned)
    save(platform, mine, "newer")
    wait_for(lambda: told(platform, mine).get("reason") == "DigestPinned", what=platform.output)
    assert says(platform, mine) == "hello"

    # the modules path goes and comes back: nothing is deleted, every module says so and serves on
    platform.modules.rename(platform.home / "away")
    wait_for(lambda: all(told(platform, name).get("reason") == "SourceGone" for name in NAMES), what=platform.output)
    assert "the modules path is missing" in told(platform, first)["message"]
    assert "SourceGone" in platform.cli("describe", "module", shown(first))
    assert "modplane discover --prune" in platform.cli("discover", check=1)
    (platform.home / "away").rename(platform.modules)
    wait_for(lambda: told(platform, first) == {}, what=platform.output)

    # one of six goes; a person's own module whose code goes is only reported
    (platform.modules / f"{others[0]}.py").unlink()
    platform.wait_state(shown(others[0]), None)
    (platform.modules / f"{mine}.py").unlink()
    wait_for(lambda: "discovery did not make it" in told(platform, mine).get("message", ""), what=platform.output)
    assert says(platform, mine) == "hello"

    # three of the four that are left go: held, told, and deleted when a person says so
    for name in (first, second, others[1]):
        (platform.modules / f"{name}.py").unlink()
    wait_for(lambda: "3 of 4 discovered" in told(platform, first).get("message", ""), what=platform.output)
    assert says(platform, first) == "saved"
    answer = json.loads(platform.cli("discover", "-o", "json"))
    assert answer["prunable"] == [shown(name) for name in sorted([first, second, others[1]])]
    said = platform.cli("discover", "--prune")
    assert f"module/{shown(first)} deleted" in said
    for name in (first, second, others[1]):
        platform.wait_state(shown(name), None)
    assert [says(platform, name) for name in (mine, others[2])] == ["hello", "hello"]


def test_where_nothing_tells_looking_finds_new_code_and_what_a_person_deleted_stays_away(tmp_path: Path) -> None:
    with running(tmp_path, examples=False, environment={"MODPLANE_MODULES_POLL_SECONDS": "0.2"}) as platform:
        save(platform, "found")
        (platform.modules / "linked").symlink_to("/")
        (platform.modules / ".found.py.swp").write_text("not code")
        platform.wait_state("found", "ACTIVE")
        assert generation(platform, "found") == 1
        platform.cli("delete", "module/found")
        save(platform, "other")
        platform.wait_state("other", "ACTIVE")
        assert platform.object("modules", "found") is None
        save(platform, "found", "anew")
        platform.wait_state("found", "ACTIVE")
        assert says(platform, "found") == "anew"
