"""Whatever one module's code does when it is imported, its author is told, and every other module serves on."""

from pathlib import Path
from typing import Any

import pytest

from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running, wait_for
from tests.doubles.traffic import flowing

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(300)]

BAD = {
    "broken": ("import nosuch", "ImportFailed"),
    "bomber": ("import os\nwhile True: os.fork()", "ImportFailed"),
    "poisoner": ("import json\njson.loads = json.dumps = None", "HostChanged"),
    "quitter": ("import os\nos._exit(0)", "ProcessDied"),
    "closer": ("import os\nos.closerange(0, 1000)", "AnswerLost"),
}
"""By module: what it does at its import, and the reason that its author reads."""


def stalled(platform: Platform, name: str) -> tuple[str, str, str]:
    """State of a module, reason and message of its condition Valid."""
    found: dict[str, Any] = platform.object("modules", name) or {}
    conditions = {each["type"]: each for each in found.get("status", {}).get("conditions", [])}
    valid = conditions.get("Valid", {})
    return found.get("status", {}).get("state", ""), valid.get("reason", ""), valid.get("message", "")


def write(platform: Platform, name: str, first: str = "", **more: Any) -> None:
    (platform.modules / f"{name}.py").write_text(f"{first}\n{module_source(name, **more)}")


def apply(platform: Platform, *names: str, wait: bool = False) -> None:
    text = "\n---\n".join(map(manifest, names))
    platform.cli("apply", *(["--wait"] if wait else []), "-f", "-", stdin=text)


def test_bad_code_is_refused_with_a_reason_while_everybody_else_serves(tmp_path: Path) -> None:
    with running(tmp_path, examples=False, environment=BY_HAND) as platform:
        for name in ("calm", "turned", "late"):
            write(platform, name)
        apply(platform, "calm", "turned", wait=True)
        for number in range(3):
            write(platform, f"hangs{number}", "while True: pass")
        for name, (text, _) in BAD.items():
            write(platform, name, text)
        with (
            flowing(f"{platform.door}/api/v1/modules/v1/calm/hello", callers=1) as calm,
            flowing(f"{platform.door}/api/v1/modules/v1/turned/hello", callers=1) as turned,
        ):
            write(platform, "turned", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", say="never")
            apply(platform, "turned", *(f"hangs{number}" for number in range(3)), *BAD, "late")
            platform.wait_state("late", "ACTIVE", timeout=120.0)
            for name, (_, reason) in BAD.items():
                platform.wait_state(name, "ERROR", timeout=120.0)
                assert stalled(platform, name)[1] == reason
            wait_for(lambda: stalled(platform, "turned")[1] == "ProcessDied", what="the generation that turned bad")
        assert calm.only(200), (calm.answers, calm.failures)
        assert turned.only(200), (turned.answers, turned.failures)
        assert platform.call("v1/turned/hello").json()["say"] == "hello"
        assert platform.call("v1/late/hello").status_code == 200
        assert "signal SIGKILL" in stalled(platform, "turned")[2]
        assert "64 processes and threads" in stalled(platform, "bomber")[2]
        assert "json.dumps, json.loads" in stalled(platform, "poisoner")[2]
