"""Many new generations: unknown code goes to inspection without a turn, everything else gets its turn at once."""

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane import errors
from controlplane.reconcile import deciding, examining, inquiring
from controlplane.reconcile.queueing import WorkQueue
from controlplane.reconcile.waking import Sighting
from controlplane.store.transactions import Transaction
from schemas.kits.backoffs import Backoff
from schemas.module import ModuleSpec
from tests.doubles.clock import FakeClock
from tests.doubles.inlinestore import InlineStore, open_inline
from tests.doubles.inspectors import TableInspector, module_spec


def sighting(name: str, generation: int = 1) -> Sighting:
    return Sighting(name, f"uid-{name}", generation)


class Parts:
    """An inquirer, and what it speaks to."""

    def __init__(self, store: InlineStore, clock: FakeClock) -> None:
        self.store = store
        self.queue = WorkQueue(clock, Backoff(base=0.1, cap=60.0))
        self.woken: list[str] = []
        self.inspector = TableInspector(0.001)
        self.examiner = examining.Examiner(
            self.inspector, clock, Backoff(base=1.0, cap=60.0), Path("/code"), self.woken.append
        )
        self.inquirer = inquiring.Inquirer(store, self.examiner, self.queue)

    async def ask(self, *heard: tuple[Sighting, dict[str, object]]) -> None:
        for each in heard:
            self.inquirer.hear(*each)
        running = asyncio.create_task(self.inquirer.run())
        while any(self.queue.retry_in(each.name) is None for each, _ in heard):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    clock = FakeClock()
    store = open_inline(tmp_path, clock, "one.db")
    parts = Parts(store, clock)
    yield parts
    await parts.examiner.stop()
    store.shut()


async def test_unknown_code_goes_to_inspection_and_its_turn_waits_for_that(parts: Parts) -> None:
    many = [(sighting(f"m{number}"), module_spec(number)) for number in range(70)]
    await parts.ask(*many)
    assert all(parts.examiner.inspects(each) for each, _ in many)
    assert {parts.queue.retry_in(each.name) for each, _ in many} >= {deciding.patience(0)}
    assert min(parts.queue.retry_in(each.name) or 0.0 for each, _ in many) == deciding.patience(0)


async def test_code_of_which_something_is_known_gets_its_turn_at_once(parts: Parts) -> None:
    shared, alone = sighting("shared"), sighting("alone")
    key, _ = parts.examiner.keys(shared, ModuleSpec.model_validate(module_spec(1)))
    _, trial_key = parts.examiner.keys(alone, ModuleSpec.model_validate(module_spec(2)))
    for kept in (key, trial_key):
        await parts.store.write(functools.partial(Transaction.put_inspection, key=kept, report={"id": kept}))
    await parts.ask((shared, module_spec(1)), (alone, module_spec(2)), (sighting("other"), module_spec(2)))
    assert [parts.queue.retry_in(name) for name in ("shared", "alone")] == [0.0, 0.0]
    assert parts.queue.retry_in("other") == deciding.patience(0)
    assert [parts.examiner.inspects(each) for each in (shared, alone)] == [False, False]


async def test_what_has_no_code_or_cannot_be_read_gets_its_turn_at_once(parts: Parts) -> None:
    await parts.ask((sighting("bare"), {"entryPoint": "mod:Module"}), (sighting("ill"), {"entryPoint": 7}))
    assert [parts.queue.retry_in(name) for name in ("bare", "ill")] == [0.0, 0.0]


async def test_a_database_that_does_not_answer_loses_nobody(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(query: object) -> None:
        raise errors.StoreBusy("cut off")

    monkeypatch.setattr(parts.store, "read", busy)
    await parts.ask((sighting("one"), module_spec(1)))
    assert parts.queue.retry_in("one") == 0.0
    assert not parts.examiner.inspects(sighting("one"))


async def test_another_generation_is_not_the_one_that_is_inspected(parts: Parts) -> None:
    await parts.ask((sighting("one"), module_spec(1)))
    assert parts.examiner.inspects(sighting("one"))
    assert not parts.examiner.inspects(sighting("one", 2))
