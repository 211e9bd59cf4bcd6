"""What lies ready for Prometheus and Grafana can be read by them; the journey of metrics shows that its names exist."""

import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.doubles.platform import ROOT

DEPLOY = ROOT / "deploy"


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert len(alerts) > 10
    for alert in alerts:
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert {"summary", "description"} == set(alert["annotations"]), alert["alert"]


def test_promtool_finds_no_fault() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH (Debian's package prometheus has it)")
    done = subprocess.run(
        [promtool, "check", "rules", str(DEPLOY / "prometheus" / "rules.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_whole() -> None:
    board: dict[str, Any] = json.loads((DEPLOY / "grafana" / "modplane.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) > 10
    for panel in board["panels"]:
        assert panel["title"]
        assert all(target["expr"] for target in panel["targets"]), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
