"""The Table that `get` shows."""

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.api import tables
from schemas import kinds
from schemas.meta import Json, now_text

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MODULE = kinds.BY_NAME["Module"]


def condition(kind: str, status: str, reason: str = "Because", generation: int = 2) -> Json:
    return {"type": kind, "status": status, "reason": reason, "observedGeneration": generation}


def document(*conditions: Json) -> Json:
    return {
        "metadata": {"name": "orders", "generation": 2, "creationTimestamp": now_text(NOW - timedelta(minutes=5))},
        "spec": {"version": "1.0.0", "routing": {"apiVersion": "v2", "namespace": "shop"}},
        "status": {"state": "ACTIVE", "workers": {"applied": 1, "desired": 2}, "conditions": list(conditions)},
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 60, "5h1m"),
        (8 * 3600, "8h"),
        (48 * 3600, "2d"),
        (3 * 86400 + 3600, "3d1h"),
        (10 * 86400, "10d"),
        (800 * 86400, "2y"),
    ],
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert tables.age(now_text(NOW - timedelta(seconds=seconds)), NOW) == text


def test_a_flag_shows_its_rollout_and_the_overrides_in_force() -> None:
    overrides = [
        {"key": "a", "variant": "on"},
        {"key": "b", "variant": "on", "expires": "2000-01-01T00:00:00Z"},
        {"key": "c", "variant": "on", "expires": "2100-01-01T00:00:00Z"},
    ]
    spec = {"state": "ENABLED", "killSwitch": False, "defaultVariant": "off", "overrides": {"users": overrides},
            "rollout": {"percentage": 12.5, "bucketBy": "organisation"}, "targeting": {"var": "x"}}  # fmt: skip
    row = tables.cells(kinds.BY_NAME["FeatureFlag"], {"metadata": {"name": "beta"}, "spec": spec}, NOW)
    assert row[:7] == ["beta", "ENABLED", False, "off", "12.5% of organisations", 2, ""]
    assert row[8] == "yes"


@pytest.mark.parametrize(("observed", "text"), [(2, "1/2"), (1, "")])
def test_on_how_many_workers_the_newest_generation_of_a_flag_holds(observed: int, text: str) -> None:
    status = {"observedGeneration": observed, "workers": {"desired": 2, "applied": 1}}
    document = {"metadata": {"name": "beta", "generation": 2}, "spec": {}, "status": status}
    assert tables.cells(kinds.BY_NAME["FeatureFlag"], document, NOW)[6] == text


@pytest.mark.parametrize(
    ("field", "text"), [("tokenId", "token x"), ("subject", "subject x"), ("organisation", "organisation x")]
)
def test_a_revocation_shows_what_it_shuts_out(field: str, text: str) -> None:
    row = tables.cells(kinds.BY_NAME["Revocation"], {"metadata": {"name": "r"}, "spec": {field: "x"}}, NOW)
    assert row[1] == text


def test_an_object_without_birth_has_no_age() -> None:
    assert tables.age(None, NOW) == "<unknown>"


def test_a_module_is_one_row_with_its_name_first() -> None:
    row = tables.cells(MODULE, document(condition("Ready", "True")), NOW)
    assert row == ["orders", "ACTIVE", "True", "1.0.0", "/v2/shop", "1/2", "5m", 2, None, "", ""]
    assert len(row) == len(tables.headings(MODULE))


def test_readiness_of_an_older_generation_is_unknown() -> None:
    assert tables.cells(MODULE, document(condition("Ready", "True", generation=1)), NOW)[2] == "Unknown"
    assert tables.cells(MODULE, document(), NOW)[2] == "Unknown"


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ([condition("Stalled", "True", "ImportFailed"), condition("Valid", "False")], "ImportFailed"),
        ([condition("Deleting", "True", "Draining"), condition("Stalled", "True", "ImportFailed")], "Draining"),
        ([condition("Valid", "True"), condition("DependenciesReady", "False", "Waiting")], "Waiting"),
        ([condition("Valid", "True"), condition("Stalled", "False")], ""),
    ],
)
def test_the_reason_is_what_stands_in_the_way(conditions: list[Json], reason: str) -> None:
    assert tables.cells(MODULE, document(*conditions), NOW)[-1] == reason


def test_rows_carry_as_much_of_the_object_as_asked_for() -> None:
    shown = {
        include: tables.table(MODULE, [document()], NOW, metadata={}, include=include)["rows"][0]
        for include in ("None", "Metadata", "Object")
    }
    assert "object" not in shown["None"]
    assert shown["Metadata"]["object"]["kind"] == "PartialObjectMetadata"
    assert shown["Object"]["object"]["spec"]["version"] == "1.0.0"


def test_every_kind_has_a_table_even_of_an_empty_object() -> None:
    for kind in kinds.KINDS:
        cells = tables.cells(kind, {"metadata": {}}, NOW)
        assert len(cells) == len(kind.columns) + 1
