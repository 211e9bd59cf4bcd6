"""May this come in?  Every problem at once, in words that say what to write instead."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import bounds, validating, wording
from schemas import kinds, names
from schemas.meta import Json

GOOD: dict[str, Json] = {
    "Module": {"entryPoint": "analytics_core:AnalyticsCoreModule"},
    "Organisation": {"displayName": "Acme"},
    "ModuleAccess": {"organisation": "acme", "module": "analytics_core"},
    "FeatureFlag": {"variants": {"on": True, "off": False}},
    "Revocation": {"issuer": "https://login.example", "subject": "somebody"},
}

ARCHITECTURE: Json = {
    "apiVersion": "modplane.dev/v1",
    "kind": "Module",
    "metadata": {"name": "analytics-core", "labels": {"team": "insights"}},
    "spec": {
        "entryPoint": "analytics_core:AnalyticsCoreModule",
        "source": {"path": "analytics_core"},
        "version": "1.0.0",
        "type": "analytics",
        "stage": "development",
        "displayName": "Analytics Core",
        "description": "...",
        "author": "...",
        "routing": {"apiVersion": "v1", "namespace": "analytics-core"},
        "auth": {"level": "PERMISSION", "permissions": [], "roles": [], "featureFlags": []},
        "permissions": ["read_analytics"],
        "tenancy": "shared",
        "dependencies": [{"name": "core-users", "version": ">=1.2 <2"}],
        "config": {},
        "configSchema": {},
        "health": {"intervalSeconds": 10, "timeoutSeconds": 2, "failureThreshold": 3},
        "limits": {"timeoutSeconds": 30, "maxBodyBytes": 1048576, "maxConcurrency": 100, "maxThreads": 20},
        "placement": {"workerSelector": {}},
        "rollout": {"bakeSeconds": 0},
        "loading": "eager",
        "suspend": False,
    },
}


def manifest(kind: str = "Module", name: Any = "thing", spec: Json | None = None, **metadata: Any) -> Json:
    return {
        "apiVersion": "modplane.dev/v1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": {**GOOD[kind], **(spec or {})},
    }


def faults(document: Any, **options: Any) -> dict[str, str]:
    normal, violations = validating.validate(document, **options)
    assert (normal is None) == bool(violations)
    pointers = [found.pointer for found in violations]
    assert len(pointers) == len(violations)
    return {found.pointer: found.message for found in violations}


def test_the_manifest_of_the_architecture_is_valid_and_stays_as_it_is() -> None:
    normal, violations = validating.ModuleValidator().validate(ARCHITECTURE)
    assert violations == []
    assert normal == ARCHITECTURE


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_that_people_write_has_a_valid_form(kind: str) -> None:
    assert faults(manifest(kind)) == {}


def test_names_come_out_in_their_one_spelling() -> None:
    document = manifest(
        name="analytics_core",
        spec={"routing": {"namespace": "my_space"}, "dependencies": [{"name": "core_users"}]},
    )
    before = copy.deepcopy(document)
    normal, _ = validating.validate(document)
    assert normal is not None
    assert normal["metadata"]["name"] == "analytics-core"
    assert normal["spec"]["routing"]["namespace"] == "my-space"
    assert normal["spec"]["dependencies"][0]["name"] == "core-users"
    assert document == before


def test_nothing_is_added_but_nulls_status_and_managed_fields_go() -> None:
    document = manifest(
        spec={"auth": None, "source": {"path": None}, "config": {"kept": None}},
        creationTimestamp=None,
        managedFields=[{"manager": "x", "fieldsV1": {}}],
    )
    document["status"] = {"anything": 1}
    normal, violations = validating.validate(document)
    assert violations == []
    assert normal == manifest(spec={"source": {}, "config": {"kept": None}})


def test_an_access_without_a_name_is_called_after_its_ends() -> None:
    document = manifest("ModuleAccess")
    del document["metadata"]
    normal, violations = validating.validate(document)
    assert violations == []
    assert normal is not None
    assert normal["metadata"]["name"] == "acme--analytics-core"
    assert faults({**document, "spec": {"organisation": 1}}).keys() == {
        "/metadata/name",
        "/spec/organisation",
        "/spec/module",
    }


def test_every_problem_is_told_at_once_and_says_what_is_allowed() -> None:
    found = faults(
        {
            "apiVersion": "modplane.dev/v2",
            "kind": "Module",
            "metadata": {"name": 1, "labels": {"a": 2}, "lables": {}},
            "spec": {
                "entryPoint": "x",
                "entry_point": "a:b",
                "versoin": "1",
                "namespace": "x",
                "zzz": 1,
                "type": "Analytic",
                "version": 1.1,
                "limits": {"timeoutSeconds": 0, "maxThreads": 1.5, "maxConcurrency": 1_000_000},
                "dependencies": [{"name": "", "foo": 1}, 3],
                "suspend": "no",
                "auth": {"level": "NON", "permissions": [1]},
                "source": {"digest": "x"},
                "displayName": "a" * 300,
                "config": [],
                "health": {"intervalSeconds": "5"},
            },
        }
    )
    expected = {
        "/apiVersion": 'apiVersion is "modplane.dev/v2"; write apiVersion: modplane.dev/v1.',
        "/metadata/name": 'metadata.name must be text, but 1 is a number; put it in quotes: "1".',
        "/metadata/labels/a": 'metadata.labels.a must be text, but 2 is a number; put it in quotes: "2".',
        "/metadata/lables": "metadata.lables is not a field that exists. Did you mean 'labels'?",
        "/spec/entryPoint": f'spec.entryPoint {wording.ENTRY_POINT}, but is "x".',
        "/spec/entry_point": "spec.entry_point is not a field that exists. Did you mean 'entryPoint'?",
        "/spec/versoin": "spec.versoin is not a field that exists. Did you mean 'version'?",
        "/spec/namespace": "spec.namespace is not a field that exists. Did you mean spec.routing.namespace?",
        "/spec/version": 'spec.version must be text, but 1.1 is a number; put it in quotes: "1.1".',
        "/spec/type": "spec.type must be core, analytics, integration, visualization, reporting or ai_ml, "
        "but is \"Analytic\". Did you mean 'analytics'?",
        "/spec/limits/timeoutSeconds": "spec.limits.timeoutSeconds must be greater than 0, but is 0.",
        "/spec/limits/maxThreads": "spec.limits.maxThreads must be a whole number, but 1.5 is a number.",
        "/spec/limits/maxConcurrency": "spec.limits.maxConcurrency must be at most 100000, but is 1000000.",
        "/spec/dependencies/0/name": "spec.dependencies[0].name must not be empty.",
        "/spec/dependencies/0/foo": "spec.dependencies[0].foo is not a field that exists. "
        "spec.dependencies[0] may have: name, version.",
        "/spec/dependencies/1": "spec.dependencies[1] must be an object (keys and values), but 3 is a number.",
        "/spec/suspend": 'spec.suspend must be true or false, but "no" is text; write it without quotes, and not as '
        "yes, no, on or off.",
        "/spec/auth/level": 'spec.auth.level must be NONE, BASIC, PERMISSION, ROLE or ADMIN, but is "NON". '
        "Did you mean 'NONE'?",
        "/spec/auth/permissions/0": 'spec.auth.permissions[0] must be text, but 1 is a number; put it in quotes: "1".',
        "/spec/source/digest": "spec.source.digest must be 'sha256:' and 64 hex digits in lower case, but is \"x\".",
        "/spec/displayName": "spec.displayName must have at most 256 characters, but has 300.",
        "/spec/config": "spec.config must be an object (keys and values), but [] is a list.",
        "/spec/health/intervalSeconds": 'spec.health.intervalSeconds must be a number, but "5" is text; '
        "write it without quotes.",
    }
    assert {pointer: found.get(pointer) for pointer in expected} == expected
    assert found.keys() - expected.keys() == {"/spec/zzz"}
    assert "spec may have: entryPoint, source, version" in found["/spec/zzz"]


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        ([], "", "not a list"),
        ("text", "", "not text"),
        (None, "", "not nothing"),
        ({}, "/kind", "kind is missing; write Module, Organisation, ModuleAccess, FeatureFlag or Revocation."),
        ({"kind": "module"}, "/kind", "Did you mean 'Module'?"),
        ({"kind": "Modul"}, "/kind", "Did you mean 'Module'?"),
        ({"kind": "orgs"}, "/kind", 'but is "orgs"'),
        ({"kind": ["Module"]}, "/kind", "kind must be"),
        ({"kind": "Worker"}, "/kind", "written by the control plane only"),
        ({"kind": "Module"}, "/apiVersion", "apiVersion is missing; write apiVersion: modplane.dev/v1."),
        ({"kind": "Module", "metadata": []}, "/metadata", "must be an object"),
        ({"kind": "Module"}, "/spec", "spec is required, but missing."),
        ({"kind": "Module"}, "/metadata/name", "metadata.name is required, but missing."),
    ],
)
def test_a_document_that_is_hardly_one_is_told_so(document: Any, pointer: str, words: str) -> None:
    assert words in faults(document)[pointer]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Analytics-Core", "must be in lower case, but is 'Analytics-Core'; try 'analytics-core'"),
        ("a.b", "must not contain dots, but is 'a.b'; try 'a-b'"),
        ("аnalytics", "contains 'а' (U+0430 CYRILLIC SMALL LETTER A)"),
        ("\u202ecimulA", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("x" * 64, "must have at most 63 characters, but has 64"),
        ("-a", "must be 1 to 63 of a-z, 0-9 and '-'"),
        ("..", "must not contain dots"),
        ("a/b", "but is 'a/b'; try 'a-b'"),
        ("a\n", "must be 1 to 63"),
        ("", "is required, but missing"),
        ("___", "must be 1 to 63"),
    ],
)
def test_names_are_dns_labels(name: str, words: str) -> None:
    assert words in faults(manifest(name=name))["/metadata/name"]


@pytest.mark.parametrize("reserved", sorted(names.RESERVED_NAMESPACES))
def test_reserved_namespaces_are_ours(reserved: str) -> None:
    assert "is reserved" in faults(manifest(name=reserved))["/metadata/name"]
    assert "is reserved" in faults(manifest(spec={"routing": {"namespace": reserved}}))["/spec/routing/namespace"]
    assert faults(manifest(name=reserved, spec={"routing": {"namespace": "free"}})) == {}


@pytest.mark.parametrize(
    ("pointer", "spec", "words"),
    [
        ("/spec/routing/namespace", {"routing": {"namespace": "Big"}}, "must be in lower case"),
        ("/spec/routing/apiVersion", {"routing": {"apiVersion": "v4"}}, "must be v1, v2 or v3"),
        ("/spec/source/path", {"source": {"path": "/abs/analytics_core"}}, "is absolute"),
        ("/spec/source/path", {"source": {"path": "C:x"}}, "is absolute"),
        ("/spec/source/path", {"source": {"path": "../analytics_core"}}, "'..' is not allowed"),
        ("/spec/source/path", {"source": {"path": "a/./analytics_core"}}, "'.' is not allowed"),
        ("/spec/source/path", {"source": {"path": "a\\analytics_core"}}, "must use '/'"),
        ("/spec/source/path", {"source": {"path": "a//analytics_core"}}, "must be folders"),
        ("/spec/source/path", {"source": {"path": ".hidden/analytics_core"}}, "must be folders"),
        ("/spec/source/path", {"source": {"path": ""}}, "must not be empty"),
        ("/spec/source/path", {"source": {"path": "team/other"}}, "must end in 'analytics_core'"),
        ("/spec/source/path", {"source": {"path": "analytics_core.py"}}, "write 'analytics_core' without .py"),
        ("/spec/entryPoint", {"entryPoint": "os:system"}, "a module of Python itself"),
        ("/spec/entryPoint", {"entryPoint": "a.class:B"}, "keyword 'class'"),
        ("/spec/entryPoint", {"entryPoint": "a/b:C"}, "must be a Python module"),
        ("/spec/version", {"version": "v1.2"}, "but is 'v1.2'; try '1.2.0'"),
        ("/spec/version", {"version": "1.0.0-01"}, "must be a semantic version"),
        ("/spec/version", {"version": "latest"}, "must be a semantic version"),
        ("/spec/version", {"version": "1.0.0\n"}, "must be a semantic version"),
        ("/spec/dependencies/0/name", {"dependencies": [{"name": "thing"}]}, "a module cannot wait for itself"),
        ("/spec/dependencies/0/name", {"dependencies": [{"name": "Up"}]}, "must be in lower case"),
        ("/spec/dependencies/1/name", {"dependencies": [{"name": "a_b"}, {"name": "a-b"}]}, "a second time"),
        ("/spec/dependencies/0/version", {"dependencies": [{"name": "a", "version": "1.2.3.4"}]}, "must be a range"),
        ("/spec/dependencies/0/version", {"dependencies": [{"name": "a", "version": "x" * 999}]}, "must be a range"),
        ("/spec/permissions/1", {"permissions": ["a", "a"]}, "a second time"),
        ("/spec/permissions/0", {"permissions": ["a b"]}, "must not contain spaces"),
        ("/spec/auth/roles/0", {"auth": {"roles": [""]}}, "must not be empty"),
        ("/spec/auth/featureFlags/0", {"auth": {"featureFlags": ["f" * 129]}}, "at most 128"),
        (
            "/spec/auth/permissions/0",
            {"permissions": ["read_analytics"], "auth": {"permissions": ["read_analytic"]}},
            "add it there, or did you mean 'read_analytics'",
        ),
        ("/spec/auth/level", {"auth": {"level": "NONE", "roles": ["x"]}}, "write ROLE"),
        ("/spec/auth/level", {"auth": {"level": "NONE", "permissions": ["x"]}}, "write PERMISSION"),
        ("/spec/placement/workerSelector/a b", {"placement": {"workerSelector": {"a b": "x"}}}, "is no valid key"),
        ("/spec/placement/workerSelector/a", {"placement": {"workerSelector": {"a": "x y"}}}, "must be empty, or"),
    ],
)
def test_what_a_module_says_fits_together(pointer: str, spec: Json, words: str) -> None:
    found = faults(manifest(spec=spec))
    assert list(found) == [pointer]
    assert words in found[pointer]


@pytest.mark.parametrize(
    ("pointer", "metadata", "words"),
    [
        ("/metadata/labels/-x", {"labels": {"-x": "y"}}, "is no valid key"),
        ("/metadata/labels/a~1b~1c", {"labels": {"a/b/c": "y"}}, "must be a DNS name"),
        ("/metadata/labels/a", {"labels": {"a": "é"}}, "must be empty, or"),
        ("/metadata/annotations/a b", {"annotations": {"a b": "anything goes"}}, "is no valid key"),
        ("/metadata/finalizers/0", {"finalizers": ["mine"]}, "such as modplane.dev/routes"),
        ("/metadata/creationTimestamp", {"creationTimestamp": "yesterday"}, "a point in time"),
    ],
)
def test_metadata_is_in_kubernetes_syntax(pointer: str, metadata: Json, words: str) -> None:
    found = faults(manifest(**metadata))
    assert list(found) == [pointer]
    assert words in found[pointer]


@pytest.mark.parametrize(
    ("kind", "pointer", "spec", "words"),
    [
        ("FeatureFlag", "/spec/variants", {"variants": {}}, "at least one variant"),
        ("FeatureFlag", "/spec/variants", {"variants": {"on": True, "off": "no"}}, "values of one type"),
        ("FeatureFlag", "/spec/defaultVariant", {"defaultVariant": "of"}, "Did you mean 'off'"),
        ("FeatureFlag", "/spec/defaultVariant", {"variants": {"a": 1}}, "no variant is called 'off'"),
        (
            "FeatureFlag",
            "/spec/overrides/users/0/variant",
            {"overrides": {"users": [{"key": "u", "variant": "x"}]}},
            "must be one of spec.variants",
        ),
        (
            "FeatureFlag",
            "/spec/overrides/users/1/key",
            {"overrides": {"users": [{"key": "u", "variant": "on"}, {"key": "u", "variant": "off"}]}},
            "a second time",
        ),
        ("FeatureFlag", "/spec/rollout/variant", {"rollout": {"variant": "of"}}, "Did you mean 'off'"),
        ("FeatureFlag", "/spec/rollout/percentage", {"rollout": {"percentage": 101}}, "100"),
        (
            "FeatureFlag",
            "/spec/overrides/users/0/expires",
            {"overrides": {"users": [{"key": "u", "variant": "on", "expires": "2030-01-31T12:00:00"}]}},
            "with its zone",
        ),
        (
            "FeatureFlag",
            "/spec/overrides/organisations/0/key",
            {"overrides": {"organisations": [{"key": "Acme", "variant": "on"}]}},
            "must be in lower case",
        ),
        ("FeatureFlag", "/spec/prerequisites/0", {"prerequisites": ["thing"]}, "the flag itself"),
        ("FeatureFlag", "/spec/targeting/iff", {"targeting": {"iff": [True, "on"]}}, "Did you mean 'if'"),
        ("FeatureFlag", "/spec/targeting/if/0/log", {"targeting": {"if": [{"log": "x"}, "on"]}}, "no operator"),
        ("FeatureFlag", "/spec/targeting", {"targeting": {"if": [], "or": []}}, "one operator"),
        ("FeatureFlag", "/spec/targeting", {"targeting": {"in": ["x", ["y"] * 2000]}}, "at most 16 deep"),
        ("FeatureFlag", "/spec/variants", {"variants": {str(n): n for n in range(101)}, "defaultVariant": "1"}, "100"),
        ("Revocation", "/spec", {"tokenId": "t"}, "but tokenId and subject are given"),
        ("Revocation", "/spec", {"subject": None}, "but none is given"),
        ("Revocation", "/spec/organisation", {"subject": None, "organisation": "A"}, "must be in lower case"),
        (
            "Revocation",
            "/spec/issuedBefore",
            {"subject": None, "tokenId": "t", "issuedBefore": "2030-01-31T12:00:00Z"},
            "names one token",
        ),
        ("ModuleAccess", "/spec/module", {"module": "A"}, "must be in lower case"),
        (
            "ModuleAccess",
            "/spec/usersAllowed/0",
            {"usersAllowed": ["u"], "usersDenied": ["u"]},
            "also in spec.usersDenied",
        ),
    ],
)
def test_flags_and_accesses_make_sense(kind: str, pointer: str, spec: Json, words: str) -> None:
    found = faults(manifest(kind, spec=spec))
    assert list(found) == [pointer]
    assert words in found[pointer]


@pytest.mark.parametrize("text", ["*", "", "1", "^1.4", "~0.3", ">=1.2 <2", "1 - 2", "1.x || >=2.5.0", "=1.0.0-rc.1"])
def test_npm_ranges_are_ranges(text: str) -> None:
    assert faults(manifest(spec={"dependencies": [{"name": "a", "version": text}]})) == {}


@pytest.mark.parametrize("text", ["1.0.0", "0.0.0", "1.0.0-alpha.1+build.5", "10.20.30-0A.is.legal"])
def test_semantic_versions_are_versions(text: str) -> None:
    assert faults(manifest(spec={"version": text})) == {}


def test_a_piece_for_server_side_apply_may_leave_out_but_not_get_wrong() -> None:
    piece = {"apiVersion": "modplane.dev/v1", "kind": "Module", "metadata": {"name": "thing"}}
    assert faults(piece, partial=True) == {}
    assert faults({**piece, "spec": {"version": "1.2.3", "configSchema": {"required": ["a"]}}}, partial=True) == {}
    assert list(faults({**piece, "spec": {"version": "x", "dependencies": [{}]}}, partial=True)) == [
        "/spec/dependencies/0/name",
        "/spec/version",
    ]
    flag = {**piece, "kind": "FeatureFlag", "spec": {"defaultVariant": "blue"}}
    assert faults(flag, partial=True) == {}


def test_documents_are_bounded_whatever_door_they_come_through() -> None:
    assert "but 65,536 are allowed" in faults(manifest(spec={"config": {"a": "x" * 70_000}}))[""]
    assert faults(manifest(spec={"config": {"a": "é" * 30_000}})) == {}
    assert "keys and values" in faults(manifest(spec={"config": {"a": [1] * 20_001}}))[""]
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    assert "deeper than 32" in faults(manifest(spec={"config": {"a": deep}}))[""]
    for _ in range(100_000):
        deep = [deep]
    assert "deeper than 32" in faults(manifest(spec={"config": {"a": deep}}))[""]
    assert "not JSON" in faults(manifest(spec={"config": {"a": float("nan")}}))[""]
    assert "not JSON" in faults(manifest(spec={"config": {"a": {1, 2}}}))[""]


def test_characters_that_no_store_or_terminal_wants_are_refused() -> None:
    assert "U+001B" in faults(manifest(spec={"displayName": "\x1b[31mred"}))["/spec/displayName"]
    assert "U+009B" in faults(manifest(spec={"description": "\x9b31m"}))["/spec/description"]
    assert "U+0000" in faults(manifest(spec={"config": {"a": ["\0"]}}))["/spec/config/a/0"]
    assert "half of a surrogate pair U+D800" in faults(manifest(spec={"config": {"\ud800": "\0"}}))["/spec/config"]
    assert faults(manifest(spec={"config": {"a": "\x1b[31m"}, "description": "line\n\ttab 😀"})) == {}


def test_every_pattern_of_the_models_has_its_words() -> None:
    patterns = set()

    def look(schema: Any) -> None:
        if isinstance(schema, dict):
            if isinstance(schema.get("pattern"), str):
                patterns.add(schema["pattern"])
            for value in schema.values():
                look(value)
        elif isinstance(schema, list):
            for value in schema:
                look(value)

    for kind in kinds.KINDS:
        if kind.writable:
            look(kind.model.model_json_schema())
    assert {pattern for pattern in patterns if ":[A-Za-z_]" not in pattern} == wording.PATTERNS.keys()


def test_an_error_without_words_of_ours_is_still_told() -> None:
    message, reason = wording.sentence({"type": "other", "msg": "Odd", "input": 1})
    assert (message, reason) == ("is not allowed here: odd; found 1.", "FieldValueInvalid")
    assert wording.sentence({"type": "string_pattern_mismatch", "ctx": {"pattern": "^x$"}, "input": "y"})[0] == (
        'must match the pattern ^x$, but is "y".'
    )
    assert wording.shown("x" * 100).endswith("…")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)
FIELDS = [*ARCHITECTURE["spec"], "variants", "overrides", "organisation", "module", "usersAllowed"]


@given(
    st.sampled_from([*GOOD, "Worker", "x"]),
    JUNK | st.fixed_dictionaries({}, optional={"name": JUNK, "labels": JUNK, "annotations": JUNK, "finalizers": JUNK}),
    st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=5) | JUNK,
    st.booleans(),
)
def test_junk_is_refused_or_normalised_but_never_raises(kind: str, metadata: Any, spec: Any, partial: bool) -> None:
    document = {"apiVersion": "modplane.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}
    normal, violations = validating.validate(document, partial=partial)
    assert (normal is None) == bool(violations)
    assert len(violations) <= validating.MAX_VIOLATIONS
    for found in violations:
        assert found.message.endswith((".", "?"))
        assert found.pointer == "" or found.pointer.startswith("/")
    if normal is not None:
        assert validating.validate(normal, partial=partial) == (normal, [])
        text, problems = bounds.encode(normal)
        assert not problems
        if not partial:
            kinds.BY_NAME[kind].model.model_validate(json.loads(text))
