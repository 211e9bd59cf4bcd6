"""What an administrator reads of calls is what the callers counted, to the call, whatever was restarted meanwhile."""

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas import names
from tests.doubles.platform import BY_HAND, ROOT, Platform, lives, manifest, module_source, running, wait_for

pytestmark = pytest.mark.processes

METRICS = "/api/v1/module-management/modules/metrics"
REQUESTS = "modplane_route_requests_total"
PATHS = {"hello": "/hello", "guarded": "/guarded", "nothing": "_other"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("metrics")
    with running(
        home, examples=False, workers=2, environment={**BY_HAND, "MODPLANE_KEEP_ALIVE_SECONDS": "1"}
    ) as started:
        add(started, "shop")
        yield started


def add(platform: Platform, module: str) -> None:
    (platform.modules / f"{module}.py").write_text(module_source(module))
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest(module))


class Client:
    """Calls one module over connections of its own, and counts the answers."""

    def __init__(self, platform: Platform, module: str = "shop") -> None:
        self.platform = platform
        self.module = module
        self.seen: Counter[tuple[str, bool]] = Counter()

    def call(self, times: int) -> None:
        with httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0)) as http:
            for number in range(times):
                word = ("hello", "hello", "guarded", "nothing")[number % 4]
                answer = http.get(f"{self.platform.door}/api/v1/modules/v1/{self.module}/{word}")
                self.seen[PATHS[word], answer.status_code < 400] += 1

    def told(self) -> Counter[tuple[str, bool]]:
        """The same of the control plane."""
        found: Counter[tuple[str, bool]] = Counter()
        for entry in metrics(self.platform, module=self.module).values():
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
    wait_for(lambda: not lives(process))


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


@pytest.mark.slow
async def test_a_stream_of_workers_that_acknowledges_nothing_starts_nats_again_and_no_count_is_lost(
    platform: Platform,
) -> None:
    add(platform, "unheard")
    client = Client(platform, "unheard")
    async with platform.nats("controlplane") as admin:
        found = (await admin.jetstream().stream_info(names.STREAM_METRICS)).config
        await admin.jetstream().update_stream(found.evolve(no_ack=True))
    client.call(40)
    said = f"NATS stores nothing (no write to {names.STREAM_METRICS} was acknowledged"
    wait_for(lambda: said in platform.output(), what=platform.output)
    client.agree()
    client.call(40)
    client.agree()
    async with platform.nats("controlplane") as admin:
        assert not (await admin.jetstream().stream_info(names.STREAM_METRICS)).config.no_ack


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_counts_agree_to_the_call_through_a_restart_of_nats(platform: Platform, sign: signal.Signals) -> None:
    module = f"through{sign.value}"
    add(platform, module)
    client = Client(platform, module)
    client.call(40)
    client.agree()
    client.call(40)
    end(platform.child("nats-server"), sign)
    client.call(40)
    client.agree()
    client.call(40)
    client.agree()


@pytest.mark.slow
def test_a_killed_worker_takes_along_only_what_it_had_not_told(platform: Platform) -> None:
    add(platform, "mortal")
    one, other = own_addresses(platform)
    seen: Counter[str] = Counter()

    def call(address: str, times: int) -> None:
        with httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0)) as http:
            for _ in range(times):
                answer = http.get(f"{address}/api/v1/modules/v1/mortal/hello")
                assert answer.status_code == 200
                seen[answer.headers["x-modplane-worker"].partition("/")[0]] += 1

    def told() -> dict[str, int]:
        found = metrics(platform, module="mortal", group="worker")
        return {worker: entry["call_count"] for worker, entry in found.items()}

    def told_of(expected: Callable[[dict[str, int]], bool]) -> None:
        wait_for(lambda: expected(told()), what=lambda: f"told {told()}, seen {seen}\n{platform.output()[-5000:]}")

    call(one, 30)
    (killed,) = seen
    call(other, 30)
    told_of(lambda found: found == seen)
    process = psutil.Process(platform.http.get(f"{one}/modules/system/info").json()["worker"]["pid"])
    call(one, 30)
    end(process, signal.SIGKILL)
    untold = range(31)
    call(other, 30)
    for address in own_addresses(platform):
        call(address, 10)
    told_of(
        lambda found: (
            found.keys() == seen.keys()
            and all(count - found[worker] in (untold if worker == killed else (0,)) for worker, count in seen.items())
        )
    )
    assert all(count <= seen[worker] for worker, count in told().items())


@pytest.mark.slow
def test_a_module_that_goes_takes_its_entries_along(platform: Platform) -> None:
    add(platform, "gone")
    assert platform.call("v1/gone/hello").status_code == 200
    wait_for(lambda: "gone:/hello" in metrics(platform))
    platform.cli("delete", "module", "gone", "--wait")
    assert not [key for key in metrics(platform) if key.startswith("gone:")]
    assert "gone:/hello" in metrics(platform, **{"from": "2020-01-01T00:00:00Z"})


def scraped(platform: Platform, address: str) -> dict[str, list[dict[str, str]]]:
    """Every sample of a scrape without a token: its labels, by name."""
    answer = platform.http.get(f"{address}/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def own_addresses(platform: Platform) -> list[str]:
    """Those of all workers, once each of them is ready: one may just take the place of another."""

    def found() -> list[str]:
        addresses = platform.refresh()
        try:
            ready = [platform.http.get(f"{address}/ready").status_code == 200 for address in addresses]
        except httpx.TransportError:
            return []
        return addresses if len(ready) == platform.workers and all(ready) else []

    return list(wait_for(found, what=platform.output))


def shown(platform: Platform) -> set[str]:
    """Names of all families of both planes, counters with their ending."""
    found = set()
    for address in (platform.control, *own_addresses(platform)):
        for family in text_string_to_metric_families(platform.http.get(f"{address}/metrics").text):
            found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return {name.removesuffix("_info") for name in found if not name.endswith("_created")}


def test_rules_dashboard_and_page_name_what_both_planes_show(platform: Platform) -> None:
    assert platform.call("v1/shop/hello").status_code == 200
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    told = {name for name in re.findall(r"`(modplane_\w+)`", page) if not name.startswith("modplane_module_")}

    def differing() -> set[str]:
        return told ^ {name for name in shown(platform) if name.startswith("modplane_")}

    wait_for(lambda: not differing(), what=lambda: f"told or shown alone: {differing()}", step=0.5)
    wait_for(lambda: "modplane_workers_behind 0.0" in platform.http.get(f"{platform.control}/metrics").text)
    there = shown(platform)
    for path in ("deploy/prometheus/rules.yaml", "deploy/grafana/modplane.json"):
        used = set(re.findall(r"\b(?:modplane|process)_\w+", (ROOT / path).read_text()))
        assert {re.sub("_bucket$", "", name) for name in used} <= there, path


@pytest.mark.slow
def test_a_scrape_names_no_tenant_and_follows_the_module(platform: Platform) -> None:
    add(platform, "brief")
    addresses = own_addresses(platform)
    for address in addresses:
        assert httpx.get(f"{address}/api/v1/modules/v1/brief/hello").status_code == 200
        assert {"module", "version", "method", "route", "outcome"} == {*scraped(platform, address)[REQUESTS][0]}
    platform.cli("delete", "module", "brief", "--wait")

    def gone() -> bool:
        routes = [each for address in addresses for each in scraped(platform, address).get(REQUESTS, [])]
        return not any(each["module"] == "brief" for each in routes)

    wait_for(gone)
