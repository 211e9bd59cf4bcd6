"""Two deaths while loading one fingerprint condemn it, and nothing else is condemned with it."""

import fcntl
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dataplane.agent import applying, holding, loading, suspecting
from dataplane.gateway import serving
from tests.dataplane.agent.test_applying import Gateway, register, wanted
from tests.doubles.clock import FakeClock
from tests.doubles.modules import FakeInstance
from tests.doubles.polling import until

A, B, C = wanted("a"), wanted("b", "b", uid="u2"), wanted("c", "c", uid="u3")


class Slot:
    """One worker slot, booted again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boots = 0
        self.unended: list[AbstractContextManager[None]] = []

    def boot(self, host_version: str = "host/1", worker: str = "w0") -> suspecting.Suspects:
        self.boots += 1
        suspects = suspecting.Suspects(
            self.folder, worker=worker, boot=f"b{self.boots}", host_version=host_version, clock=FakeClock()
        )
        suspects.recall()
        return suspects

    def die(self, *modules: holding.Wanted, host_version: str = "host/1") -> None:
        """Boot, and end without a word while these are loading."""
        suspects = self.boot(host_version)
        for module in modules:
            self.unended.append(suspects.watching(module))
            self.unended[-1].__enter__()
        assert suspects._descriptor is not None
        os.close(suspects._descriptor)
        suspects._descriptor = None


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path / "lkg")


def condemned(suspects: suspecting.Suspects, modules: Sequence[holding.Wanted] = (A, B, C)) -> list[str]:
    return [module.name for module in modules if suspects.verdict(module) is not None]


def test_one_death_makes_a_suspect_and_the_second_condemns(slot: Slot) -> None:
    slot.die(A)
    suspects = slot.boot()
    assert suspects.suspected(A)
    assert condemned(suspects) == []
    slot.die(A)
    suspects = slot.boot()
    assert condemned(suspects) == ["a"]
    verdict = suspects.verdict(A)
    assert verdict is not None
    assert "worker w0 died 2 times while it loaded this module" in verdict
    assert "w0.deaths.json" in verdict
    assert condemned(slot.boot()) == ["a"]


def test_other_code_configuration_or_host_is_tried_again(slot: Slot) -> None:
    slot.die(A)
    slot.die(A)
    assert condemned(slot.boot("host/2")) == []
    assert condemned(slot.boot(), [A, wanted("a", "2")]) == ["a"]
    slot.die(wanted("a", "2"))
    assert condemned(slot.boot(), [A, wanted("a", "2")]) == []


def test_who_was_loading_beside_a_suspect_is_not_blamed(slot: Slot) -> None:
    slot.die(A, B)
    assert all(slot.boot().suspected(module) for module in (A, B))
    slot.die(C, A)
    suspects = slot.boot()
    assert condemned(suspects) == ["a"]
    assert not suspects.suspected(C)


def test_what_was_loaded_in_the_end_is_acquitted(slot: Slot) -> None:
    slot.die(A)
    suspects = slot.boot()
    suspects.acquit(A)
    suspects.close()
    slot.die(A)
    assert condemned(slot.boot()) == []


def test_a_good_end_and_a_living_process_are_no_deaths(slot: Slot) -> None:
    living = slot.boot()
    ended = slot.boot()
    with living.watching(A), ended.watching(B):
        ended.close()
        assert not slot.boot().suspected(A)
    living.close()
    suspects = slot.boot()
    assert not any(suspects.suspected(module) for module in (A, B))
    assert list(slot.folder.iterdir()) == []


def test_a_death_between_two_modules_is_nobodys(slot: Slot) -> None:
    suspects = slot.boot()
    with suspects.watching(wanted("a-long-name-that-leaves-a-long-line")):
        pass
    assert suspects._descriptor is not None
    os.close(suspects._descriptor)
    suspects._descriptor = None
    assert slot.boot()._known == {}


def test_slots_do_not_answer_for_each_other(slot: Slot) -> None:
    slot.die(A)
    slot.die(A)
    assert condemned(slot.boot(worker="w1")) == []


def test_nonsense_on_disk_is_no_obstacle(slot: Slot) -> None:
    slot.folder.mkdir()
    (slot.folder / "w0.deaths.json").write_text("{nonsense")
    (slot.folder / "w0.b9.loading").write_text("nonsense")
    suspects = slot.boot()
    assert condemned(suspects) == []
    assert not (slot.folder / "w0.b9.loading").exists()


def test_a_folder_that_cannot_be_written_costs_only_the_protection(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    suspects = Slot(tmp_path / "file").boot()
    with suspects.watching(A), suspects.watching(B):
        pass
    suspects._known["x"] = suspecting._Entry(mark="x", module="x", uid="x", digest="")
    suspects._save()
    suspects.close()


def test_the_marker_is_locked_while_its_process_lives(slot: Slot) -> None:
    suspects = slot.boot()
    with suspects.watching(A), (slot.folder / "w0.b1.loading").open("rb") as marker:
        with pytest.raises(BlockingIOError):
            fcntl.flock(marker, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert b'"module":"a"' in marker.readline()
    suspects.close()


async def test_the_condemned_is_rejected_the_suspect_is_tried_and_the_others_load(slot: Slot) -> None:
    slot.die(A)
    slot.die(A)
    slot.die(B)
    suspects = slot.boot()
    built: list[str] = []

    def build(module: holding.Wanted) -> serving.Loaded:
        built.append(module.name)
        return FakeInstance(register, name=module.name, uid=module.uid)

    clock = FakeClock()
    applier = applying.Applier(
        Gateway(clock), loading.Loader(suspects.watched(build), clock), clock,
        host_version="host/1", labels={}, changed=lambda: None, suspects=suspects,
    )  # fmt: skip
    applier.want({"a": A, "b": B, "c": C})
    await until(lambda: applier.settled)
    assert sorted(built) == ["b", "c"]
    assert [(entry.module, entry.reason) for entry in applier.rejected()] == [("a", "CrashedWorker")]
    assert applier.serving == 2
    assert not suspects.suspected(B)
    await applier.stop()
    suspects.close()
