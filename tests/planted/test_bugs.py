"""The suite can fail: each bug below, planted in the real code, is found by the check beside it.

The bugs and their switches are in `tests.doubles.bugs`; the checks are tests of the suite as they stand, run here in a
pytest of their own, where without the bug they pass.

| planted | found by |
|---|---|
| no fencing: a deposed leader writes on | a thawed leader's write is refused by its epoch alone |
| a lease that is never given up | a database that is away for a minute |
| workers are told before the commit | the world of the simulation: nobody sees a row that is not committed |
| a decision is written on whatever stands there | an old reconcile that sleeps over a recreation |
| writes at rest | one hundred resyncs write nothing |
| claims are not taken | a route that another module holds is refused |
| claims are not released | foreign finalizers hold the object but not our part |
| silence is believed without a proof of the channel | NoWorkers is said only over a proven channel |
| the queue loses an add while its key is held | a thousand adds make exactly one more run |
| wake-ups inflate the back-off | a failure before its retry was due |
| an event is marked although it was not published | an event that the stream refuses waits |
| an event has a new message id at each try | a transition is on the stream as a CloudEvent |
| absence is deletion | an empty bucket without head takes nothing away |
| the head is not verified | a half snapshot takes nothing away |
| the epoch is ignored | order is epoch before revision |
| a tombstone is ignored | a tombstone takes away at once |
| signatures are not checked | a forged head takes nothing away |
| digests are not checked | a document that cannot be believed |
| acknowledged before it is on disk | a proof counts only once it is on disk |
| the last good state is not verified | a changed file is refused as a whole |
| an instance is kept over a change of its configuration | what an instance was built from makes another one |
| an old generation is not drained | a replaced module drains before it stops |
| a path with two readings is let through | a path with two readings is refused |
"""

import os
import subprocess
import sys

import pytest

from tests.doubles import bugs, platform


def run(*names: str, planted: bool) -> str:
    """Run the checks of these bugs in a pytest of their own; what it printed."""
    checks = sorted(bugs.BUGS[name].check for name in names)
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rf",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.doubles.bugs",
    ]
    environment = {**os.environ, "MODPLANE_PLANT_BUGS": "yes" if planted else "", "PYTHONPATH": str(platform.ROOT)}
    ended = subprocess.run(
        [*words, *checks], capture_output=True, text=True, cwd=platform.ROOT, env=environment, check=False
    )
    wanted = pytest.ExitCode.TESTS_FAILED if planted else pytest.ExitCode.OK
    assert ended.returncode == wanted, ended.stdout + ended.stderr
    return ended.stdout


def unfound(*names: str) -> list[str]:
    """The bugs that the suite does not see when they are planted."""
    printed = run(*names, planted=True)
    return [name for name in names if f"FAILED {bugs.BUGS[name].check}" not in printed]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_planted_bug_is_found() -> None:
    assert unfound(*bugs.BUGS) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_a_bug_every_check_passes() -> None:
    run(*bugs.BUGS, planted=False)


def test_the_table_has_every_bug_and_each_has_a_check_of_its_own() -> None:
    assert __doc__ is not None
    rows = [line for line in __doc__.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len({bug.check for bug in bugs.BUGS.values()}) == len(bugs.BUGS) >= 15
