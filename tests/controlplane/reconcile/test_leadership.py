"""Leadership: one at a time, on one's own clock, given up before anybody else may take it."""

import asyncio
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from controlplane.reconcile import leadership, locks
from controlplane.reconcile.leadership import LEASE_SECONDS, RENEW_DEADLINE, Standing, resigned, step
from controlplane.store.records import Lease
from tests.doubles.inlinestore import open_inline
from tests.doubles.virtualloop import VirtualClock, virtually


def test_an_unclaimed_or_released_lease_is_taken_at_once() -> None:
    standing, lease = step(Standing("a"), None, 100.0, locked=False)
    assert lease == Lease("a", 1, 1)
    assert standing.epoch == 1
    standing, lease = step(Standing("b"), Lease("a", 7, 3, released=True), 100.0, locked=False)
    assert lease == Lease("b", 8, 1)


def test_a_living_lease_is_waited_out_on_our_own_clock() -> None:
    row = Lease("a", 1, 5)
    standing, lease = step(Standing("b"), row, 1000.0, locked=False)
    assert lease is None
    standing, lease = step(standing, row, 1000.0 + LEASE_SECONDS - 0.1, locked=False)
    assert lease is None
    standing, lease = step(standing, replace(row, beat=6), 1000.0 + LEASE_SECONDS, locked=False)
    assert lease is None
    standing, lease = step(standing, replace(row, beat=6), 1000.0 + 2 * LEASE_SECONDS, locked=False)
    assert lease == Lease("b", 2, 1)


def test_a_free_lock_proves_only_a_leader_that_had_it() -> None:
    assert step(Standing("b"), Lease("a/locked", 1, 5), 0.0, locked=True)[1] == Lease("b/locked", 2, 1)
    assert step(Standing("b"), Lease("a", 1, 5), 0.0, locked=True)[1] is None
    assert step(Standing("b"), Lease("a/locked", 1, 5), 0.0, locked=False)[1] is None


def test_a_leader_that_renewed_too_long_ago_gives_up() -> None:
    standing, lease = step(Standing("a"), None, 0.0, locked=False)
    late, nothing = step(standing, lease, RENEW_DEADLINE, locked=False)
    assert nothing is None
    assert not late.leads
    assert step(late, lease, RENEW_DEADLINE + 0.5, locked=False)[1] is None


def test_a_leader_whose_epoch_was_raised_goes_on_under_the_new_one() -> None:
    standing, _ = step(Standing("a"), None, 0.0, locked=False)
    standing, lease = step(standing, Lease("a", 40, 2), 1.0, locked=False)
    assert (standing.epoch, lease) == (40, Lease("a", 40, 3))


def test_a_leader_that_sees_another_s_name_resigns() -> None:
    standing, _ = step(Standing("a"), None, 0.0, locked=True)
    standing, lease = step(standing, Lease("b", 2, 1), 1.0, locked=True)
    assert (standing.leads, lease) == (False, None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["x", "y", "z"]),
            st.floats(0, 3),
            st.booleans(),
            st.booleans(),
        ),
        max_size=120,
    ),
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
)
def test_whatever_the_pauses_and_clocks_two_never_believe_to_lead_at_a_time(
    moves: list[tuple[str, float, bool, bool]], starts: tuple[float, float, float]
) -> None:
    """Candidates step at any time, with clocks of any origin; some of their writes are lost."""
    row: Lease | None = None
    offsets = dict(zip("xyz", starts, strict=True))
    standings = {name: Standing(name) for name in offsets}
    now, epochs = 0.0, []
    for name, pause, lost, _ in moves:
        now += pause
        local = now + offsets[name]
        standing, lease = step(standings[name], row, local, locked=False)
        if lease is None:
            standings[name] = standing
        elif not lost:
            standings[name] = standing
            if row is None or lease.epoch != row.epoch:
                epochs.append(lease.epoch)
            row = lease
        elif standings[name].leads and standings[name].expires_in(local) <= 0:
            standings[name] = resigned(standings[name], local)
        believing = [
            other for other, known in standings.items() if known.leads and known.expires_in(now + offsets[other]) > 1e-6
        ]
        assert len(believing) <= 1
    assert epochs == sorted(set(epochs))


def _run(tmp_path: Path, scenario: object) -> None:
    async def body() -> None:
        store = open_inline(tmp_path, VirtualClock())
        try:
            await scenario(store)  # type: ignore[operator]
        finally:
            store.shut()

    virtually(body())


class Engines:
    """What a leadership started and ended."""

    def __init__(self) -> None:
        self.gained: list[int] = []
        self.lost = 0
        self.fail_at: set[int] = set()

    async def gain(self, epoch: int) -> None:
        self.gained.append(epoch)
        if len(self.gained) in self.fail_at:
            raise RuntimeError("no engine today")

    async def lose(self) -> None:
        self.lost += 1


def test_engines_that_do_not_start_give_the_lead_away_and_get_another_chance(tmp_path: Path) -> None:
    async def scenario(store: object) -> None:
        engines = Engines()
        engines.fail_at = {1}
        leader = leadership.Leadership(store, VirtualClock(), "a")  # type: ignore[arg-type]
        running = asyncio.create_task(leader.run(engines.gain, engines.lose))
        await asyncio.sleep(20)
        assert engines.gained == [1, 2]
        assert engines.lost == 1
        assert leader.leads
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await leader.release()
        assert (leader.leads, leader.epoch) == (False, 0)

    _run(tmp_path, scenario)


def test_a_slow_start_of_the_engines_does_not_stop_renewals(tmp_path: Path) -> None:
    async def scenario(store: object) -> None:
        begun, ended = [], []

        async def slowly(epoch: int) -> None:
            begun.append(epoch)
            await asyncio.sleep(60)
            ended.append(epoch)

        async def failing() -> None:
            raise RuntimeError("an engine does not end")

        leader = leadership.Leadership(store, VirtualClock(), "a")  # type: ignore[arg-type]
        running = asyncio.create_task(leader.run(slowly, failing))
        await asyncio.sleep(30)
        assert (begun, ended, leader.epoch) == ([1], [], 1)
        await store.write(lambda tx: tx.put_lease(Lease("b", 2, 1)))  # type: ignore[attr-defined]
        await asyncio.sleep(3)
        assert not leader.leads
        await asyncio.sleep(60)
        assert ended == []
        assert begun == [1, 3]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    _run(tmp_path, scenario)


def test_a_raised_epoch_is_taken_over_within_a_renewal(tmp_path: Path) -> None:
    async def scenario(store: object) -> None:
        engines = Engines()
        leader = leadership.Leadership(store, VirtualClock(), "a")  # type: ignore[arg-type]
        running = asyncio.create_task(leader.run(engines.gain, engines.lose))
        await asyncio.sleep(1)

        def lift(tx: object) -> None:
            tx.put_lease(replace(tx.lease(), epoch=41))  # type: ignore[attr-defined]

        await store.write(lift)  # type: ignore[attr-defined]
        await asyncio.sleep(3)
        assert (leader.epoch, engines.gained, engines.lost) == (41, [1], 0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    _run(tmp_path, scenario)


async def test_a_file_lock_has_one_holder_until_it_is_released(tmp_path: Path) -> None:
    one, two = (locks.beside(f"sqlite:///{tmp_path}/x.db") for _ in range(2))
    assert await one.acquire()
    assert await one.acquire()
    assert not await two.acquire()
    await one.release()
    await one.release()
    assert await two.acquire()
    await two.release()


async def test_a_file_lock_in_no_folder_is_never_had(tmp_path: Path) -> None:
    assert not await locks.beside(f"sqlite:///{tmp_path}/none/x.db").acquire()


async def test_a_database_in_memory_needs_no_lock() -> None:
    lock = locks.beside("sqlite://")
    assert not await lock.acquire()
    await lock.release()


async def test_a_postgres_that_does_not_answer_gives_no_lock() -> None:
    lock = locks.beside("postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert isinstance(lock, locks.AdvisoryLock)
    assert not await lock.acquire()
    await lock.release()
