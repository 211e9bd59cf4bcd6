"""Bugs that can be switched on in the real code, so that the suite proves that it would find them.

Each is what a quick implementation has, and names the check of the suite that has to see it.  As a plugin of pytest
(``-p tests.doubles.bugs``) this runs each of these checks with its bug, if ``MODPLANE_PLANT_BUGS`` is set; called by
`tests/planted`, where they have to fail.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pytest

from controlplane.messaging import outbox
from controlplane.reconcile import acting, fleet, leadership, queueing
from controlplane.store import transactions
from dataplane.agent import holding, keeping, planning, saving
from dataplane.gateway import hosting, paths
from schemas.documents import DesiredDocument
from schemas.kits import signatures

Plant = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug, and the check of the suite that has to see it."""

    plant: Plant
    check: str
    """Node id of a test."""


def _instead(owner: Any, name: str, new: Any) -> Plant:
    return lambda: mock.patch.object(owner, name, new)


def _and(owner: Any, name: str, more: Callable[..., Any]) -> Plant:
    """The real method, whose result (and arguments) go through ``more``."""
    real = getattr(owner, name)

    def both(*given: Any, **named: Any) -> Any:
        return more(real, *given, **named)

    return lambda: mock.patch.object(owner, name, both)


def _whatever_stands_there(_: Any, tx: transactions.Transaction, read: Any) -> Any:
    return tx.get(read.kind, read.name) or read


@contextlib.contextmanager
def _told_before_commit() -> Iterator[None]:
    """Workers hear of a desired row inside the transaction that writes it."""
    from tests.simulation import world  # late: a plugin is imported before the tests are

    worlds: list[world.World] = []
    made, desire = world.World.__init__, transactions.Transaction.desire

    def noted(self: world.World, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        worlds[:] = [self]

    def told(self: transactions.Transaction, **named: Any) -> Any:
        row = desire(self, **named)
        worlds[0].bucket_put(row)
        return row

    with mock.patch.object(world.World, "__init__", noted), mock.patch.object(transactions.Transaction, "desire", told):
        yield


def _forgetful_add(
    real: Any, self: queueing.Schedule, key: str, priority: queueing.Priority, now: float, delay: float = 0.0
) -> None:
    if key not in self.held:
        real(self, key, priority, now, delay)


def _impatient_failure(real: Any, self: queueing.Schedule, key: str, uid: str, now: float) -> Any:
    failing = self._failing.get(key)
    if failing is not None:
        failing.due = min(failing.due, now)
    return real(self, key, uid, now)


def _swept_without_proof(real: Any, self: fleet.Fleet, now: float) -> None:
    self._beat, self._proven_since = now, self._proven_since or now - 1000
    real(self, now)


def _deletes_what_is_absent(real: Any, self: holding.Held) -> Any:
    standing = real(self)
    for key in self._view.absent:
        gone = self._documents.pop(key, None)
        if gone is not None:
            self._want(gone.name, None)
    return standing


def _deaf_to_tombstones(real: Any, self: holding.Held, key: str, document: DesiredDocument) -> None:
    if not document.deleted:
        real(self, key, document)


def _acknowledges_early(real: Any, self: saving.Saver, proof: holding.Proof, changes: Any) -> None:
    real(self, proof, changes)
    self.proof = proof


async def _takes_refusals_for_acknowledgements(self: outbox.Relay, key: str) -> None:
    lane = self._lanes[key]
    while lane:
        with contextlib.suppress(Exception):
            await self._publish(lane[0])
        self._acknowledged.append(lane.popleft().id)
        self._to_mark.set()
    del self._lanes[key]
    self._turn.set()


def _new_id_each_time(real: Any, self: outbox.Relay, row: Any) -> Any:
    return real(self, replace(row, event_id=str(uuid.uuid4())))


async def _lets_go_at_once(real: Any, self: hosting.Host, served: Any, grace: float) -> None:
    await real(self, served, 0.0)


_FAULTS, _LIFE, _DELETION = (f"tests/simulation/test_{name}.py::" for name in ("faults", "lifecycle", "deletion"))
_HOLDING = "tests/dataplane/agent/test_holding.py::"
_QUEUE = "tests/controlplane/reconcile/test_queueing.py::"
_OUTBOX = "tests/controlplane/messaging/test_outbox.py::"
_DISPATCH = "tests/dataplane/gateway/test_dispatching.py::"

BUGS: dict[str, Bug] = {
    "no fencing": Bug(
        _instead(transactions.Transaction, "check_epoch", lambda self, epoch: None),
        f"{_FAULTS}test_a_thawed_leader_s_write_is_refused_by_its_epoch_alone",
    ),
    "lease never given up": Bug(
        _instead(leadership.Standing, "expires_in", lambda self, now: 1.0),
        f"{_FAULTS}test_a_database_that_is_away_for_a_minute_loses_nothing",
    ),
    "told before the commit": Bug(_told_before_commit, f"{_LIFE}test_an_applied_module_walks_to_active_in_two_commits"),
    "a decision is written on whatever stands there": Bug(
        _and(acting, "_same", _whatever_stands_there),
        f"{_LIFE}test_an_old_reconcile_that_sleeps_over_a_recreation_leaves_the_newcomer_alone",
    ),
    "writes at rest": Bug(
        _instead(acting, "is_needed", lambda facts, decision: True),
        f"{_LIFE}test_one_hundred_resyncs_of_a_converged_module_write_nothing",
    ),
    "claims not taken": Bug(
        _instead(transactions.Transaction, "take_claims", lambda self, *given: []),
        f"{_LIFE}test_a_route_that_another_module_holds_is_refused_and_had_when_it_is_released",
    ),
    "claims not released": Bug(
        _instead(transactions.Transaction, "release_claims", lambda self, *given: None),
        f"{_DELETION}test_foreign_finalizers_hold_the_object_but_not_our_part",
    ),
    "silence believed without a proof": Bug(
        _and(fleet.Fleet, "_sweep", _swept_without_proof),
        f"{_LIFE}test_no_workers_is_said_once_and_only_over_a_proven_channel",
    ),
    "an add is lost while its key is held": Bug(
        _and(queueing.Schedule, "add", _forgetful_add),
        f"{_QUEUE}test_a_thousand_adds_while_one_run_is_held_make_exactly_one_more_run",
    ),
    "wake-ups inflate the back-off": Bug(
        _and(queueing.Schedule, "failed", _impatient_failure),
        f"{_QUEUE}test_a_failure_before_its_retry_was_due_counts_no_further",
    ),
    "marked although it was not published": Bug(
        _instead(outbox.Relay, "_drain", _takes_refusals_for_acknowledgements),
        f"{_OUTBOX}test_an_event_that_the_stream_refuses_waits_until_it_is_taken",
    ),
    "a new message id at each try": Bug(
        _and(outbox.Relay, "_publish", _new_id_each_time),
        f"{_OUTBOX}test_a_transition_is_on_the_stream_as_a_cloud_event",
    ),
    "absence is deletion": Bug(
        _and(holding.Held, "finish", _deletes_what_is_absent),
        f"{_HOLDING}test_an_empty_bucket_without_head_takes_nothing_away",
    ),
    "head not verified": Bug(
        _instead(holding._View, "equals", lambda self, head: True),
        f"{_HOLDING}test_a_half_snapshot_takes_nothing_away",
    ),
    "epoch ignored": Bug(
        _instead(DesiredDocument, "order", property(lambda self: (0, self.revision))),
        f"{_HOLDING}test_order_is_epoch_before_revision_and_never_generation",
    ),
    "tombstone ignored": Bug(
        _and(holding.Held, "_accept", _deaf_to_tombstones), f"{_HOLDING}test_a_tombstone_takes_away_at_once"
    ),
    "signature not checked": Bug(
        _instead(signatures.TrustedKeys, "refusal", lambda self, *given: None),
        f"{_HOLDING}test_a_forged_head_takes_nothing_away",
    ),
    "digest not checked": Bug(
        _instead(DesiredDocument, "intact", lambda self: True),
        f"{_HOLDING}test_a_document_that_cannot_be_believed_is_reported_and_the_last_good_stays",
    ),
    "acknowledged before it is on disk": Bug(
        _and(saving.Saver, "offer", _acknowledges_early),
        "tests/dataplane/agent/test_saving.py::"
        "test_a_proof_counts_only_once_it_is_on_disk_and_what_came_meanwhile_goes_together",
    ),
    "last good state not verified": Bug(
        _instead(keeping, "_checksum", lambda *given: b"\0" * 32),
        "tests/dataplane/agent/test_keeping.py::test_a_changed_file_is_refused_as_a_whole",
    ),
    "instance kept over a change of configuration": Bug(
        _instead(planning, "keeps_instance", lambda *given: True),
        "tests/dataplane/agent/test_applying.py::test_what_an_instance_was_built_from_makes_another_instance",
    ),
    "old generation not drained": Bug(
        _and(hosting.Host, "_let_go", _lets_go_at_once),
        "tests/dataplane/gateway/test_hosting.py::test_a_replaced_module_drains_before_it_stops",
    ),
    "path with two readings let through": Bug(
        _instead(paths, "refusal", lambda raw: None),
        f"{_DISPATCH}test_a_path_with_two_readings_is_refused_before_anything_is_looked_up",
    ),
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run each check with its bug, fixtures included."""
    check = item.nodeid.partition("[")[0]
    with contextlib.ExitStack() as planted:
        for bug in BUGS.values():
            if bug.check == check and os.environ.get("MODPLANE_PLANT_BUGS"):
                planted.enter_context(bug.plant())
        return (yield)
