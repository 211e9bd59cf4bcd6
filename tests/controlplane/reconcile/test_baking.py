"""Whether a generation proves itself follows from what counted workers saw of it, and from its time."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.reconcile import baking, diagnosing
from controlplane.reconcile.baking import Verdict
from controlplane.reconcile.fleet import FleetView, Standing, WorkerView
from schemas.module import CircuitState, Rollout
from schemas.reports import Ailing, HealthState, Pending, Trial, WorkerReport

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ROLLOUT = Rollout(bake_seconds=60, error_percent=5, minimum_calls=20)


def worker(
    name: str = "w0", *, calls: int = 0, errors: int = 0, generation: int = 2, standing: Standing = Standing.COUNTED,
    **more: object,
) -> WorkerView:  # fmt: skip
    report: dict[str, object] = {
        "id": name, "boot": "b", "synced": True, "started_at": NOW, "reported_at": NOW,
        "trials": [Trial(module="one", generation=generation, calls=calls, errors=errors)],
    }  # fmt: skip
    return WorkerView(WorkerReport.model_validate({**report, **more}), standing)


def ailing(state: HealthState = HealthState.UNHEALTHY, generation: int = 2, **more: object) -> Ailing:
    words = {"reason": "CheckFailed", "message": "no database"} if state is HealthState.UNHEALTHY else {}
    return Ailing.model_validate(
        {"module": "one", "generation": generation, "state": state, "since": NOW, **words, **more}
    )


def fleet(*workers: WorkerView, proven: bool = True) -> FleetView:
    return FleetView({view.report.id: view for view in workers}, proven, 100.0, ())


def judge(*workers: WorkerView, baked_for: float | None = 10.0, rollout: Rollout = ROLLOUT) -> baking.Bake:
    return baking.judge(fleet(*workers), {}, "one", 2, rollout, baked_for)


def test_it_bakes_for_its_time_and_then_has_proved_itself() -> None:
    bake = judge(worker(calls=10))
    assert (bake.verdict, bake.requeue_after) == (Verdict.BAKING, 50.0)
    bake = judge(worker(calls=100, errors=5), baked_for=60.0)
    assert bake.verdict is Verdict.PASSED
    assert bake.message == "it has served for 60 s; 5 of 100 calls failed (5.0 %)"


def test_over_its_error_budget_it_has_failed_and_the_numbers_say_so() -> None:
    bake = judge(worker("w0", calls=60, errors=5), worker("w1", calls=40, errors=1))
    assert (bake.verdict, bake.reason) == (Verdict.FAILED, "ErrorBudgetSpent")
    assert bake.message == (
        "6 of 100 calls failed (6.0 %) [w0: 5 of 60, w1: 1 of 40], more than the 5 % "
        "that spec.rollout.errorPercent allows"
    )


def test_few_calls_say_nothing() -> None:
    assert judge(worker(calls=19, errors=19)).verdict is Verdict.BAKING


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (ailing(), "BakeUnhealthy"),
        (ailing(HealthState.HEALTHY, circuit=CircuitState.OPEN, circuit_message="9 of 9 failed"), "BakeCircuitOpen"),
    ],
)
@pytest.mark.parametrize("baked_for", [None, 10.0, 60.0])
def test_ill_on_one_worker_it_has_failed(entry: Ailing, reason: str, baked_for: float | None) -> None:
    bake = judge(worker("w0"), worker("w1", ailing=[entry]), baked_for=baked_for)
    assert (bake.verdict, bake.reason) == (Verdict.FAILED, reason)
    assert bake.message.startswith("w1: ")


def test_what_is_said_of_another_generation_or_by_who_does_not_count_is_nothing() -> None:
    others = [
        worker("w0", calls=100, errors=100, generation=1),
        worker("w1", ailing=[ailing(generation=1)]),
        worker("w2", calls=100, errors=100, standing=Standing.LOST, ailing=[ailing()]),
        worker("w3", ailing=[ailing(HealthState.UNKNOWN)]),
    ]
    assert judge(*others).verdict is Verdict.BAKING


def test_silence_proves_nothing() -> None:
    assert judge(baked_for=1000.0).verdict is Verdict.BAKING
    unproven = baking.judge(fleet(worker(), proven=False), {}, "one", 2, ROLLOUT, 1000.0)
    assert (unproven.verdict, unproven.requeue_after) == (Verdict.BAKING, 1.0)


COUNTS = st.integers(0, 60)


@given(st.lists(st.tuples(COUNTS, COUNTS), max_size=4), st.floats(0, 120), st.integers(1, 100), st.integers(1, 50))
def test_always_by_the_numbers(counts: list[tuple[int, int]], baked_for: float, percent: int, minimum: int) -> None:
    rollout = Rollout(bake_seconds=60, error_percent=percent, minimum_calls=minimum)
    workers = [worker(f"w{n}", calls=good + bad, errors=bad) for n, (good, bad) in enumerate(counts)]
    bake = judge(*workers, baked_for=baked_for, rollout=rollout)
    calls, errors = sum(good + bad for good, bad in counts), sum(bad for _, bad in counts)
    spent = calls >= minimum and errors / max(calls, 1) > percent / 100
    if bake.verdict is Verdict.FAILED:
        assert errors * 100 > percent * calls
        assert calls >= minimum
    else:
        assert not spent or errors * 100 == percent * calls
        assert (bake.verdict is Verdict.PASSED) is (baked_for >= 60 and bool(workers))
        assert bake.verdict is Verdict.PASSED or (bake.requeue_after or 0) > 0


def diagnosis(*workers: WorkerView) -> tuple[str, str] | None:
    found = diagnosing.diagnose(fleet(*workers), {}, "one", 2)
    return None if found is None else (f"{found.status}:{found.reason}", found.message)


def test_health_is_what_counted_workers_that_hold_the_generation_say() -> None:
    assert diagnosis(worker()) == ("True:NoCheck", "it serves, and has no check of its own")
    assert diagnosis(worker(checked={"one": 1})) == ("True:ChecksPass", "the module's own check says that it is well")
    unknown = worker("w1", ailing=[ailing(HealthState.UNKNOWN)])
    assert diagnosis(worker(), unknown) == ("Unknown:Checking", "waiting for the first checks on w1")
    ill = worker("w2", ailing=[ailing(out=True)])
    assert diagnosis(worker(), unknown, ill) == (
        "False:Unhealthy",
        "on 1 of 3 workers: w2: no database (CheckFailed, out of service there)",
    )


def test_an_open_circuit_is_unhealthy_and_the_worst_is_summed_up() -> None:
    half = ailing(HealthState.HEALTHY, circuit=CircuitState.HALF_OPEN, circuit_message="9 of 9 failed")
    opened = half.model_copy(update={"circuit": CircuitState.OPEN})
    found = diagnosing.diagnose(fleet(worker(ailing=[half]), worker("w1", ailing=[opened])), {}, "one", 2)
    assert found is not None
    assert (found.reason, found.summary.circuit, found.summary.unhealthy) == ("CircuitOpen", CircuitState.OPEN, 0)


def test_nobody_who_holds_the_generation_says_nothing() -> None:
    busy = Pending(module="one", generation=2, since=NOW, reason="Loading")
    for nobody in (worker(standing=Standing.LOST), worker(pending=[busy]), worker(ailing=[ailing(generation=1)])):
        assert diagnosis(nobody) is None
