"""A change whose control plane is killed between its commit and NATS goes on in the same trace, in the next process."""

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.kits import tracecontext
from tests.doubles import polling
from tests.doubles.platform import BY_HAND, running
from tests.doubles.spans import collector

pytestmark = [pytest.mark.processes, pytest.mark.slow]

MODULE: dict[str, Any] = {
    "apiVersion": "modplane.dev/v1",
    "kind": "Module",
    "metadata": {"name": "my-module"},
    "spec": {"entryPoint": "my_module:MyModule", "source": {"path": "my_module"}, "version": "1.0.0", "type": "core"},
}


def test_a_change_goes_on_in_its_trace_after_the_control_plane_was_killed(tmp_path: Path) -> None:
    parent = tracecontext.start(tracecontext.SAMPLED)
    with collector() as taken:
        environment = {**BY_HAND, "OTEL_EXPORTER_OTLP_ENDPOINT": taken.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        with running(tmp_path, environment=environment) as platform:
            before = platform.child("controlplane", "serve")
            nats = platform.child("nats-server")
            nats.send_signal(signal.SIGSTOP)  # what is committed now cannot be published
            answer = platform.admin.post(
                f"{platform.control}/apis/modplane.dev/v1/modules", json=MODULE, headers={"traceparent": str(parent)}
            )
            assert answer.status_code == 201, answer.text
            before.send_signal(signal.SIGKILL)
            nats.send_signal(signal.SIGCONT)
            polling.until_sync(lambda: not before.is_running() or before.status() == "zombie", what="it is killed")
            platform.refresh()

            def active() -> bool:
                try:
                    platform.refresh()
                    return platform.state("my-module") == "ACTIVE"
                except (OSError, ValueError, httpx.HTTPError):
                    return False

            polling.until_sync(active, timeout=90.0, what="the module is ACTIVE", step=0.1)

            def done() -> set[tuple[str, str]]:
                spans = [span for span in taken.taken() if span["trace"] == parent.trace_id]
                found = {(span["service"], span["name"]) for span in spans}
                wanted = {
                    ("modplane-controlplane", "publish desired state"),
                    ("modplane-controlplane", "reconcile"),
                    ("modplane-worker", "swap"),
                    ("modplane-worker", "acknowledge"),
                }
                return found if wanted <= found else set()

            polling.until_sync(done, timeout=60.0, what="the rest of the trace has arrived")
            assert f"trace {parent.trace_id}" in platform.cli("trace", "my-module")
