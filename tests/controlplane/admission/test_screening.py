"""A screen accepts what its model accepts, and nothing else."""

import copy
import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.admission import checking, screening
from schemas import kinds
from schemas.meta import Json

STRICTLY: Final[Any] = {"strict": True, "extra": "forbid", "by_alias": True, "by_name": False}
KINDS: Final = [kind for kind in kinds.KINDS if kind.writable]
GOOD: Final[dict[str, Json]] = {
    "Module": {
        "entryPoint": "a.b:C",
        "source": {"path": "a/b", "digest": f"sha256:{'0' * 64}"},
        "version": "1.0.0",
        "type": "core",
        "routing": {"apiVersion": "v2", "namespace": "n"},
        "auth": {"level": "ROLE", "roles": ["r"], "rolesMatch": "all"},
        "dependencies": [{"name": "d", "version": "*"}],
        "config": {"a": [1, {"b": None}]},
        "limits": {"timeoutSeconds": 1.5, "maxThreads": 3},
        "placement": {"workerSelector": {"zone": "a"}},
        "suspend": True,
    },
    "Organisation": {"displayName": "O"},
    "ModuleAccess": {"organisation": "o", "module": "m", "configuration": {"a": 1}, "usersAllowed": ["u"]},
    "FeatureFlag": {"variants": {"on": True, "off": False}, "rollout": {"percentage": 10}},
    "Revocation": {"issuer": "https://i.example", "subject": "s", "issuedBefore": "2030-01-31T12:00:00Z"},
}  # fmt: skip
VALUES: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [None, True, 0, -1, 1.0, 1.5, 10**30, "", "v1", "a", "A-1", "ROLE", "2030-01-31T12:00:00Z", "2030-01-31", "1", [],
     {}, ["a"], [1], {"a": "b"}, {"a": 1}, [{"name": "x"}], {"name": "x"}, [[]]]
).map(copy.deepcopy)  # fmt: skip
METADATA: Final[Json] = {"name": "a", "labels": {"l": "v"}, "creationTimestamp": "2030-01-31T12:00:00Z"}


def accepted(validator: Any, text: str) -> bool:
    try:
        validator.validate_json(text, **STRICTLY)
    except ValidationError:
        return False
    return True


def holders(value: Any) -> list[Any]:
    """Every object and list inside a value, itself first."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(found for child in children if isinstance(child, dict | list) for found in holders(child))]


@st.composite
def changed(draw: st.DrawFn) -> tuple[kinds.Kind, Json]:
    """A good document with a few members set, renamed or taken away."""
    kind = draw(st.sampled_from(KINDS))
    document: Json = {"apiVersion": "modplane.dev/v1", "kind": kind.name, "metadata": METADATA, "spec": GOOD[kind.name]}
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(0, 2))):
        holder = draw(st.sampled_from(holders(document)))
        if isinstance(holder, list):
            holder.append(draw(VALUES))
            continue
        key = draw(st.sampled_from([*holder, "entry_point", "uid", "nope", "finalizers", "managedFields", "health"]))
        if draw(st.booleans()):
            holder[key] = draw(VALUES)
        else:
            holder.pop(key, None)
    return kind, document


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_has_a_screen_through_which_its_good_documents_pass(kind: kinds.Kind) -> None:
    document = {"apiVersion": "modplane.dev/v1", "kind": kind.name, "metadata": METADATA, "spec": GOOD[kind.name]}
    text = json.dumps(document)
    assert accepted(kind.model.__pydantic_validator__, text)
    assert accepted(screening.screen(kind.model), text)
    assert checking.violations(kind, text) == []


@given(changed())
def test_a_screen_accepts_what_its_model_accepts(made: tuple[kinds.Kind, Json]) -> None:
    kind, document = made
    text = json.dumps(document)
    passes = accepted(kind.model.__pydantic_validator__, text)
    assert accepted(screening.screen(kind.model), text) == passes
    assert (checking.violations(kind, text) == []) == passes
