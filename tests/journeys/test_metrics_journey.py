"""What an administrator reads of calls is what the callers counted, to the call, whatever was restarted meanwhile."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running, wait_for

pytestmark = pytest.mark.processes

METRICS = "/api/v1/module-management/modules/metrics"
PATHS = {"hello": "/hello", "guarded": "/guarded", "nothing": "_other"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("metrics")
    with running(
        home, examples=False, workers=2, environment={**BY_HAND, "MODPLANE_KEEP_ALIVE_SECONDS": "1"}
    ) as started:
        (started.modules / "shop.py").write_text(module_source("shop"))
        started.cli("apply", "--wait", "-f", "-", stdin=manifest("shop"))
        yield started


class Client:
    """Calls over connections of its own, and counts the answers."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.seen: Counter[tuple[str, bool]] = Counter()

    def call(self, times: int) -> None:
        with httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0)) as http:
            for number in range(times):
                word = ("hello", "hello", "guarded", "nothing")[number % 4]
                answer = http.get(f"{self.platform.door}/api/v1/modules/v1/shop/{word}")
                self.seen[PATHS[word], answer.status_code < 400] += 1

    def told(self) -> Counter[tuple[str, bool]]:
        """The same of the control plane."""
        found: Counter[tuple[str, bool]] = Counter()
        for entry in metrics(self.platform, module="shop").values():
            found[entry["route"], False] += entry["error_count"]
            found[entry["route"], True] += entry["call_count"] - entry["error_count"]
        return +found

    def agree(self) -> None:
        wait_for(
            lambda: self.told() == self.seen,
            what=lambda: f"told {self.told()}, seen {self.seen}\n{self.platform.output()[-5000:]}",
        )


def metrics(platform: Platform, **query: str) -> dict[str, Any]:
    try:
        answer = platform.admin.get(f"{platform.control}{METRICS}", params=query)
    except httpx.TransportError:
        return {}
    return dict(answer.json()) if answer.status_code == 200 else {}


def end(process: psutil.Process, sign: signal.Signals) -> None:
    """Send a signal and wait until the process is gone."""
    os.kill(process.pid, sign)
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_counts_agree_to_the_call_through_restarts(platform: Platform) -> None:
    client = Client(platform)
    client.call(40)
    client.agree()
    end(platform.child("controlplane"), signal.SIGKILL)
    client.call(40)
    client.agree()
    client.call(40)
    end(platform.child("dataplane", "worker"), signal.SIGTERM)
    client.agree()
    wait_for(lambda: sum(each["call_count"] for each in metrics(platform, group="worker").values()) >= 120)
    client.call(40)
    client.agree()


def test_a_module_that_goes_takes_its_entries_along(platform: Platform) -> None:
    (platform.modules / "gone.py").write_text(module_source("gone"))
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("gone"))
    assert platform.call("v1/gone/hello").status_code == 200
    wait_for(lambda: "gone:/hello" in metrics(platform))
    platform.cli("delete", "module", "gone", "--wait")
    assert not [key for key in metrics(platform) if key.startswith("gone:")]
    assert "gone:/hello" in metrics(platform, **{"from": "2020-01-01T00:00:00Z"})
