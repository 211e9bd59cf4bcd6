"""How a worker is, as families of metrics: its modules, its agent, its loop, its keys and its cache of decisions.

Read from any thread, while requests flow, so only what is replaced whole or copied at once is looked at.  Made by
`dataplane.app`; shown by `schemas.kits.exposing`.  Every name is told in ``docs/reference/metrics.md``.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from prometheus_client.metrics_core import InfoMetricFamily, Metric

from dataplane import guards
from dataplane.agent import agents, states
from dataplane.gateway import hosting, watching
from dataplane.telemetry import customs, exposing
from schemas.kits.exposing import counter, gauge, keys_of
from schemas.meta import Json
from schemas.module import CircuitState
from schemas.reports import WorkerState


class Gauges:
    """The families of one worker."""

    def __init__(
        self,
        host: hosting.Host,
        guard: guards.Guards,
        agent: Callable[[], agents.Agent | None],
        watchdog: Callable[[], watching.Watchdog | None],
        labels: dict[str, str],
    ) -> None:
        """``labels``: who this worker is."""
        self._host = host
        self._guards = guard
        self._agent = agent
        self._watchdog = watchdog
        self._labels = labels
        self._routes = exposing.routes(host.book)

    def __call__(self) -> Iterator[Metric]:
        """All of them."""
        yield InfoMetricFamily("modplane_worker", "Which worker this is.", value=self._labels)
        yield from self._routes()
        yield from customs.families(self._own())
        yield from self._modules()
        if (agent := self._agent()) is not None:
            yield from _agent(agent.facts)
        if (watchdog := self._watchdog()) is not None:
            yield counter("modplane_worker_loop_blocks", "How often something held the serving loop.", watchdog.count)
        yield from keys_of(self._guards.verifier.wire()["issuers"])
        yield from _decisions(self._guards.gate.wire())

    def _own(self) -> Iterator[customs.ModuleMetrics]:
        """What modules measure of themselves, for as long as they serve or drain."""
        for served in self._host.everyone():
            if served.instance is not None:
                yield served.instance.metrics

    def _modules(self) -> Iterator[Metric]:
        modules = list(self._host.snapshot.modules.values())
        troubled = sum(served.trouble is not None for served in modules)
        states = {"serving": len(modules) - troubled, "troubled": troubled}
        yield gauge("modplane_worker_modules", "Modules in the gateway.", states, "state")
        circuits = Counter(served.pulse.breaker.state for served in modules)
        yield gauge(
            "modplane_worker_circuits",
            "Circuit breakers of modules.",
            {state.value.lower(): circuits[state] for state in CircuitState},
            "state",
        )
        yield gauge("modplane_worker_retiring", "Older instances that drain or stop.", self._host.retiring)
        pinned = len(self._host.departed.pinned())
        yield gauge("modplane_worker_pinned", "Unloaded generations that somebody holds on to.", pinned)
        yield gauge("modplane_route_series", "Series of routes that are counted.", len(self._host.book))


def _agent(facts: states.Facts) -> Iterator[Metric]:
    states = {state.value: float(state is facts.state) for state in WorkerState}
    yield gauge("modplane_worker_state", "1 for the state that the worker is in.", states, "state")
    yield gauge("modplane_nats_connected", "Whether NATS is connected.", float(facts.connected))
    if facts.beat_age is not None:
        yield gauge("modplane_worker_beat_age_seconds", "Since the control plane was last heard.", facts.beat_age)
    age = facts.kept(datetime.now(UTC))["ageSeconds"]
    if age is not None:
        yield gauge("modplane_worker_last_good_age_seconds", "Age of the last good state on disk.", age)
    if (report := facts.report) is not None:
        yield gauge("modplane_worker_observed_revision", "Newest revision that was read.", report.observed_revision)
        yield gauge("modplane_worker_applied_revision", "Revision up to which all is applied.", report.applied_revision)
        yield gauge("modplane_worker_modules_pending", "Modules that are not loaded yet.", len(report.pending))
        yield gauge("modplane_worker_modules_rejected", "Modules whose generation was refused.", len(report.rejected))
        yield gauge("modplane_worker_loop_lag_seconds", "How late the serving loop runs.", report.loop_lag_seconds)
        yield gauge("modplane_worker_memory_bytes", "Memory, as it is reported.", report.memory_bytes)


def _decisions(cache: Json) -> Iterator[Metric]:
    yield gauge("modplane_auth_cache_tokens", "Tokens that are remembered.", cache["tokens"])
    yield counter("modplane_auth_cache_hits", "Decisions that were remembered.", cache["remembered"])
    yield counter("modplane_auth_cache_misses", "Decisions that were made anew.", cache["decided"])
    yield counter("modplane_auth_cache_unknown", "Tokens that had to be verified.", cache["unknown"])
    yield counter("modplane_auth_cache_evicted", "Tokens that were forgotten for want of room.", cache["evicted"])
