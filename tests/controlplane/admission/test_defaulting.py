"""Defaults fill what is left out, and nothing else."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import defaulting, validating
from schemas import kinds
from schemas.meta import Json

SPECS: dict[str, Json] = {
    "Module": {"entryPoint": "analytics_core.main:Thing"},
    "Organisation": {},
    "ModuleAccess": {"organisation": "acme", "module": "analytics-core"},
    "FeatureFlag": {},
    "Revocation": {"issuer": "https://login.example", "tokenId": "t"},
}


@pytest.mark.parametrize("kind", SPECS)
def test_a_filled_spec_is_valid_and_says_what_the_model_says(kind: str) -> None:
    full = defaulting.default(kind, "thing", SPECS[kind])
    document = {"apiVersion": "modplane.dev/v1", "kind": kind, "metadata": {"name": "thing"}, "spec": full}
    assert validating.validate(document)[1] == []
    model = kinds.BY_NAME[kind].model
    assert model.model_validate({"spec": full}) == model.model_validate({"spec": full})
    read = model.model_validate({"metadata": {"name": "thing"}, "spec": SPECS[kind]})
    told = read.model_dump(mode="json", by_alias=True, exclude_none=True)["spec"]
    for key, value in told.items():
        if key not in {"routing", "source"}:
            assert full[key] == value, key


def test_a_module_is_called_and_found_by_what_it_says_elsewhere() -> None:
    full = defaulting.default("Module", "analytics-core", {"entryPoint": "analytics_core.main:Thing"})
    assert full["routing"] == {"apiVersion": "v1", "namespace": "analytics-core"}
    assert full["source"] == {"path": "analytics_core"}
    assert "auth" not in full


def test_given_values_stay_also_inside_lists_and_free_form() -> None:
    given_spec: Json = {
        "entryPoint": "a:B",
        "auth": {"level": "NONE"},
        "dependencies": [{"name": "users"}],
        "config": {"nothing": None},
        "limits": {"maxThreads": 3},
    }
    before = copy.deepcopy(given_spec)
    full = defaulting.default("Module", "a", given_spec)
    assert given_spec == before
    assert full["auth"] == {
        "level": "NONE",
        "permissions": [],
        "permissionsMatch": "all",
        "roles": [],
        "rolesMatch": "any",
        "featureFlags": [],
    }
    assert full["dependencies"] == [{"name": "users", "version": "*"}]
    assert full["config"] == {"nothing": None}
    assert full["limits"]["maxThreads"] == 3
    assert full["limits"]["maxConcurrency"] == 100


def test_defaults_are_nobodys_to_change() -> None:
    first = defaulting.default("FeatureFlag", "f", {})
    first["variants"]["evil"] = True
    first["overrides"]["users"].append({})
    assert defaulting.default("FeatureFlag", "f", {})["variants"] == {"on": True, "off": False}
    assert defaulting.default("FeatureFlag", "f", {})["overrides"]["users"] == []


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(SPECS)), st.dictionaries(st.sampled_from(["routing", "source", "dependencies", "x"]), JUNK))
def test_filling_twice_is_filling_once_whatever_comes(kind: str, spec: dict[str, Any]) -> None:
    once = defaulting.default(kind, "n", {**SPECS[kind], **spec})
    assert defaulting.default(kind, "n", once) == once


def test_groups_are_only_what_was_given() -> None:
    groups = defaulting.default_groups("Module", "a", {"limits": {"maxThreads": 1}})
    assert list(groups) == ["limits"]
    assert groups["limits"]["timeoutSeconds"] == 30


def test_kinds_without_a_spec_have_no_model_of_one() -> None:
    assert defaulting.spec_model("Worker") is None
    assert defaulting.default("Worker", "w0", {}) == {}
