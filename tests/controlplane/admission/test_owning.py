"""Ownership by field group: who may change what, and what happens to what nobody asks for any more."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import defaulting, owning
from schemas.meta import Json
from schemas.names import MANAGER_DISCOVERY

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
DIGEST = "sha256:" + "a" * 64


class Object:
    """A stored object in a test's hand."""

    def __init__(self) -> None:
        self.content = owning.Content()
        self.managed: list[Json] = []

    def apply(
        self, manager: str, spec: Json, *, force: bool = False, now: datetime = NOW, **metadata: Any
    ) -> owning.Applied:
        document = {"metadata": {"name": "thing", **metadata}, "spec": spec}
        result = owning.apply(
            self.content, self.managed, document, kind="Module", name="thing", manager=manager, now=now, force=force
        )
        return self._keep(result)

    def update(self, manager: str, spec: Json, **metadata: Any) -> owning.Applied:
        desired = owning.Content(metadata.get("labels", {}), metadata.get("annotations", {}), spec)
        return self._keep(
            owning.update(self.content, self.managed, desired, kind="Module", name="thing", manager=manager, now=NOW)
        )

    def put(self, manager: str, digest: str, now: datetime = NOW) -> owning.Applied:
        return self._keep(owning.put_digest(self.content, self.managed, digest, manager=manager, now=now))

    def _keep(self, result: owning.Applied) -> owning.Applied:
        if not result.conflicts:
            self.content = owning.Content(result.labels, result.annotations, result.spec)
            self.managed = result.managed_fields
        return result

    def owners(self, group: str) -> list[str]:
        return owning.owners_of(self.managed, group)


def made(**spec: Any) -> Object:
    thing = Object()
    thing.apply("alice", {"entryPoint": "thing:Thing", **spec})
    return thing


def test_the_first_applier_owns_what_was_sent_and_no_default() -> None:
    thing = made(version="1.0.0")
    assert thing.managed == [
        {
            "manager": "alice",
            "operation": "Apply",
            "fields": ["spec.entryPoint", "spec.version"],
            "time": "2030-01-01T00:00:00.000000Z",
        }
    ]
    assert thing.content.spec["stage"] == "development"


def test_another_value_is_a_conflict_that_names_the_owner_and_changes_nothing() -> None:
    thing = made(version="1.0.0")
    before = (thing.content, thing.managed)
    result = thing.apply("bob", {"version": "2.0.0", "stage": "testing"})
    assert result.conflicts == {"spec.version": ["alice"]}
    assert not result.changed
    assert (result.spec, result.managed_fields) == (before[0].spec, before[1])


def test_force_takes_the_group_and_its_owner() -> None:
    thing = made(version="1.0.0")
    thing.apply("bob", {"version": "2.0.0"}, force=True)
    assert thing.content.spec["version"] == "2.0.0"
    assert thing.owners("spec.version") == ["bob"]
    assert thing.owners("spec.entryPoint") == ["alice"]


def test_the_same_value_is_owned_together_and_stays_until_the_last_lets_go() -> None:
    thing = made(limits={"maxThreads": 3})
    assert thing.apply("bob", {"limits": {"maxThreads": 3, "maxConcurrency": 100}}).conflicts == {}
    assert thing.owners("spec.limits") == ["alice", "bob"]
    thing.apply("alice", {"entryPoint": "thing:Thing"})
    assert thing.content.spec["limits"]["maxThreads"] == 3
    assert thing.owners("spec.limits") == ["bob"]
    thing.apply("bob", {})
    assert thing.content.spec["limits"]["maxThreads"] == 20
    assert thing.owners("spec.limits") == []


def test_what_is_no_longer_sent_goes_back_to_its_default() -> None:
    thing = made(version="1.0.0", config={"a": 1})
    result = thing.apply("alice", {"entryPoint": "thing:Thing"})
    assert result.spec_changed
    assert thing.content.spec["version"] == "0.0.0"
    assert thing.content.spec["config"] == {}


def test_applying_the_same_again_changes_nothing_not_even_a_time() -> None:
    thing = made(version="1.0.0")
    before = thing.managed
    result = thing.apply("alice", {"entryPoint": "thing:Thing", "version": "1.0.0"}, now=LATER)
    assert not result.changed
    assert not result.spec_changed
    assert result.managed_fields == before


def test_labels_are_no_new_generation() -> None:
    thing = made()
    result = thing.apply("alice", {"entryPoint": "thing:Thing"}, labels={"team": "insights"})
    assert result.changed
    assert not result.spec_changed
    assert thing.owners("metadata.labels") == ["alice"]
    assert thing.apply("bob", {}, labels={"team": "other"}).conflicts == {"metadata.labels": ["alice"]}
    thing.apply("alice", {"entryPoint": "thing:Thing"})
    assert thing.content.labels == {}


def test_kubectl_notes_its_last_applied_beside_the_annotations_of_others() -> None:
    thing = made()
    thing.apply("alice", {"entryPoint": "thing:Thing"}, annotations={"note": "mine"})
    assert thing.apply("kubectl-last-applied", {}, annotations={owning.LAST_APPLIED: "{}"}).conflicts == {}
    assert thing.content.annotations == {"note": "mine", owning.LAST_APPLIED: "{}"}


def test_discovery_never_takes_and_always_yields() -> None:
    thing = made(version="1.0.0")
    result = thing.apply(MANAGER_DISCOVERY, {"entryPoint": "other:Thing", "version": "3.0.0", "author": "code"})
    assert result.conflicts == {}
    assert result.yielded == ("spec.entryPoint", "spec.version")
    assert thing.content.spec["version"] == "1.0.0"
    assert thing.content.spec["author"] == "code"
    assert thing.apply("bob", {"author": "bob"}).conflicts == {}
    assert thing.owners("spec.author") == ["bob"]


def test_a_digest_is_discoverys_until_a_person_pins_it() -> None:
    thing = made(source={"path": "thing"})
    thing.put(MANAGER_DISCOVERY, DIGEST)
    assert thing.owners(owning.DIGEST) == [MANAGER_DISCOVERY]
    assert thing.owners("spec.source.path") == ["alice"]
    assert not thing.put(MANAGER_DISCOVERY, DIGEST, now=LATER).changed
    pinned = DIGEST.replace("a", "b")
    assert thing.apply("alice", {"entryPoint": "thing:Thing", "source": {"digest": pinned}}).conflicts == {}
    assert thing.put(MANAGER_DISCOVERY, DIGEST).yielded == (owning.DIGEST,)
    assert thing.content.spec["source"] == {"path": "thing", "digest": pinned}


def test_a_digest_that_discovery_set_survives_its_own_apply_without_one() -> None:
    thing = Object()
    thing.apply(MANAGER_DISCOVERY, {"entryPoint": "thing:Thing"})
    thing.put(MANAGER_DISCOVERY, DIGEST)
    result = thing.apply(MANAGER_DISCOVERY, {"entryPoint": "thing:Thing"}, now=LATER)
    assert not result.changed
    assert thing.content.spec["source"]["digest"] == DIGEST


@pytest.mark.parametrize("source", [{}, {"path": "thing"}, {"digest": DIGEST}, {"digest": DIGEST, "path": "thing"}])
def test_equal_specs_are_equal_texts_however_they_came_about(source: Json) -> None:
    thing = made(source=source)
    thing.put(MANAGER_DISCOVERY, DIGEST)
    first = json.dumps(thing.content.spec["source"])
    thing.apply("alice", {"source": source, "entryPoint": "thing:Thing"}, labels={"team": "a"})
    assert json.dumps(thing.content.spec["source"]) == first
    assert list(thing.content.spec["source"]) == ["path", "digest"]


def test_a_source_path_that_nobody_asked_for_follows_the_entry_point() -> None:
    thing = made()
    assert thing.content.spec["source"] == {"path": "thing"}
    thing.apply("alice", {"entryPoint": "other:Thing"})
    assert thing.content.spec["source"] == {"path": "other"}


def test_an_update_takes_what_it_changes_and_leaves_what_it_repeats() -> None:
    thing = made(version="1.0.0", author="alice")
    whole = {**thing.content.spec, "version": "2.0.0"}
    del whole["author"]
    result = thing.update("bob", whole, labels={"a": "b"})
    assert result.spec_changed
    assert thing.owners("spec.version") == ["bob"]
    assert thing.owners("spec.entryPoint") == ["alice"]
    assert thing.owners("spec.author") == []
    assert thing.owners("metadata.labels") == ["bob"]
    assert thing.content.spec["author"] == ""
    assert not thing.update("carol", thing.content.spec, labels={"a": "b"}).changed


def test_an_apply_does_not_remove_what_the_same_manager_updated() -> None:
    thing = made()
    thing.update("alice", {**thing.content.spec, "author": "alice"})
    thing.apply("alice", {"entryPoint": "thing:Thing"})
    assert thing.content.spec["author"] == "alice"


VALUES = {
    "entryPoint": st.sampled_from(["thing:Thing", "other:Thing"]),
    "version": st.sampled_from(["1.0.0", "2.0.0"]),
    "limits": st.sampled_from([{}, {"maxThreads": 1}, {"maxThreads": 20}]),
    "source": st.sampled_from([{}, {"path": "x/thing"}, {"digest": DIGEST}]),
    "config": st.sampled_from([{}, {"a": 1}]),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", MANAGER_DISCOVERY]),
        st.fixed_dictionaries({}, optional=VALUES),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)


@given(STEPS)
def test_whatever_is_applied_the_books_balance(steps: list[tuple[str, Json, bool, bool]]) -> None:
    thing = Object()
    for manager, spec, force, labelled in steps:
        labels: dict[str, Any] = {"labels": {"by": manager}} if labelled else {}
        discovery = manager == MANAGER_DISCOVERY
        people = {
            group for entry in thing.managed if entry["manager"] != MANAGER_DISCOVERY for group in entry["fields"]
        }
        result = thing.apply(manager, spec, force=force and not discovery, **labels)
        if discovery:
            assert result.conflicts == {}
            mine = {group for group in people if MANAGER_DISCOVERY in thing.owners(group)}
            assert not mine, "discovery took a group that a person owns"
        if force and not discovery:
            assert result.conflicts == {}
        if result.conflicts:
            continue
        for key, value in defaulting.default_groups("Module", "thing", spec).items():
            if not discovery and key != "source":
                assert thing.content.spec[key] == value
                assert manager in thing.owners(f"spec.{key}")
        again = thing.apply(manager, spec, force=force and not discovery, now=LATER, **labels)
        assert not again.changed
    unowned = {
        key for key in thing.content.spec if not thing.owners(f"spec.{key}") and key not in {"source", "routing"}
    }
    for key in unowned:
        standard = defaulting.default("Module", "thing", {})
        assert thing.content.spec[key] == standard[key], "what nobody asks for is the default"
