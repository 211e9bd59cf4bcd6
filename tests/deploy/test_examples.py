"""The examples of the README: packed, inspected and built as the system does it; what they answer is computed."""

import csv
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.admission import composing, validating
from controlplane.discovery import deriving, looking, scanning
from tests.doubles import packed
from tests.doubles.packed import Packed

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"

Ask = Callable[..., httpx.Response]


def manifest_of(name: str) -> dict[str, Any]:
    (document,) = composing.compose((EXAMPLES / name / "module.yaml").read_bytes())
    assert document.problems == []
    return document.value


def serving(name: str, entry_point: str, code_root: Path, config: dict[str, Any]) -> Iterator[Ask]:
    instance = Packed(EXAMPLES, name, code_root).built(entry_point, config)
    try:
        yield functools.partial(packed.ask, instance)
    finally:
        instance.unload()


@pytest.fixture
def analytics(tmp_path: Path) -> Iterator[Ask]:
    spec = manifest_of("analytics_core")["spec"]
    yield from serving("analytics_core", spec["entryPoint"], tmp_path, spec["config"])


@pytest.fixture
def analytics_v2(tmp_path: Path) -> Iterator[Ask]:
    spec = manifest_of("analytics_core_v2")["spec"]
    yield from serving("analytics_core_v2", spec["entryPoint"], tmp_path, spec["config"])


@pytest.fixture
def pricing(tmp_path: Path) -> Iterator[Ask]:
    spec = manifest_of("pricing_intelligence")["spec"]
    yield from serving("pricing_intelligence", spec["entryPoint"], tmp_path, spec["config"])


@pytest.fixture
def sessions() -> list[dict[str, str]]:
    with (EXAMPLES / "analytics_core" / "data" / "sessions.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_folder_is_a_modules_path_without_a_complaint() -> None:
    found = scanning.Scanner(EXAMPLES).scan(looking.look(EXAMPLES))
    assert found.failures == []
    assert found.sources == ["analytics_core", "analytics_core_v2", "my_module", "pricing_intelligence"]
    assert found.covered == {"analytics_core", "analytics_core_v2", "pricing_intelligence"}


@pytest.mark.parametrize("name", ["analytics_core", "analytics_core_v2", "pricing_intelligence"])
def test_a_manifest_is_valid_and_editors_find_its_schema(name: str) -> None:
    file = EXAMPLES / name / "module.yaml"
    first = file.read_text().splitlines()[0]
    schema = (file.parent / first.removeprefix("# yaml-language-server: $schema=")).resolve()
    assert json.loads(schema.read_text())["$id"].endswith("/module.schema.json")
    normal, violations = validating.validate(manifest_of(name))
    assert violations == []
    assert normal is not None


@pytest.mark.parametrize("name", ["analytics_core", "analytics_core_v2", "pricing_intelligence"])
def test_manifest_and_code_say_the_same_about_the_module(name: str, tmp_path: Path) -> None:
    manifest = manifest_of(name)
    (candidate,) = Packed(EXAMPLES, name, tmp_path).inspected().candidates
    derived = deriving.manifest(candidate, name)
    assert derived["metadata"]["name"] == manifest["metadata"]["name"]
    assert derived["spec"]["entryPoint"].partition(":")[2] == manifest["spec"]["entryPoint"].partition(":")[2]
    for field in ("version", "type", "displayName", "permissions"):
        assert derived["spec"][field] == manifest["spec"][field]


def test_the_single_file_needs_no_manifest(tmp_path: Path) -> None:
    example = Packed(EXAMPLES, "my_module", tmp_path)
    (candidate,) = example.inspected().candidates
    derived = deriving.manifest(candidate, "my_module")
    assert derived["metadata"] == {"name": "my-module"}
    assert validating.validate(derived)[1] == []
    example.built(derived["spec"]["entryPoint"], {}).unload()


def test_the_single_file_says_hello(tmp_path: Path) -> None:
    instance = Packed(EXAMPLES, "my_module", tmp_path).built("my_module:MyModule", {})
    ask = functools.partial(packed.ask, instance)
    assert ask("/hello").json() == {"hello": "world"}
    assert ask("/hello?name=Ada").json() == {"hello": "Ada"}
    instance.unload()


@pytest.mark.parametrize(
    ("name", "entry_point", "levels"),
    [
        (
            "analytics_core",
            "analytics_core:AnalyticsCoreModule",
            {
                "/summary": "NONE",
                "/dashboard/overview": "PERMISSION",
                "/users": "PERMISSION",
                "/users/{user_id}": "PERMISSION",
            },
        ),
        (
            "analytics_core_v2",
            "analytics_core_v2:AnalyticsCoreV2Module",
            {
                "/summary": "NONE",
                "/dashboard/overview": "PERMISSION",
                "/users": "PERMISSION",
                "/users/{user_id}": "PERMISSION",
            },
        ),
        (
            "pricing_intelligence",
            "pricing_intelligence:PricingIntelligenceModule",
            {"/markets": "NONE", "/markets/preview": "NONE", "/markets/analyse": "PERMISSION"},
        ),
        ("my_module", "my_module:MyModule", {"/hello": "NONE"}),
    ],
)
def test_each_example_has_an_open_route_and_guards_the_others(
    name: str, entry_point: str, levels: dict[str, str], tmp_path: Path
) -> None:
    routes = Packed(EXAMPLES, name, tmp_path).inspected(entry_point).routes
    assert {route.path: route.auth.level.value for route in routes if route.auth} == levels
    catalogue = manifest_of(name)["spec"]["permissions"] if name != "my_module" else []
    asked = {word for route in routes if route.auth for word in route.auth.permissions}
    assert asked == set(catalogue)


def test_the_summary_counts_the_data_set(analytics: Ask, sessions: list[dict[str, str]]) -> None:
    lately = {row["user"] for row in sessions if row["day"] >= "2025-05-26"}
    assert analytics("/summary").json() == {
        "users": 40,
        "sessions": len(sessions),
        "first_day": "2025-04-07",
        "last_day": "2025-06-01",
        "active_users": len(lately),
        "window_days": 7,
    }


def test_the_overview_compares_a_week_with_the_week_before(analytics: Ask, sessions: list[dict[str, str]]) -> None:
    now = [row for row in sessions if "2025-05-26" <= row["day"] <= "2025-06-01"]
    before = [row for row in sessions if "2025-05-19" <= row["day"] <= "2025-05-25"]
    found = analytics("/dashboard/overview").json()
    assert found["sessions"] == {"value": 61, "previous": 66, "percent": -7.6}
    assert (len(now), len(before)) == (61, 66)
    assert found["active_users"]["value"] == len({row["user"] for row in now}) == 30
    assert found["median_minutes"] == {"value": 6, "previous": 8, "percent": -25.0}
    assert found["sessions_by_plan"] == {"free": 23, "team": 19, "business": 19}
    assert found["top_pages"][0] == {"page": "overview", "sessions": 27, "share": 0.443}
    assert sum(page["sessions"] for page in found["top_pages"]) == 61
    assert [day["sessions"] for day in found["days"]] == [12, 11, 8, 12, 12, 3, 3]


def test_the_overview_of_four_weeks_has_28_days_and_no_more_is_allowed(analytics: Ask) -> None:
    found = analytics("/dashboard/overview?days=28").json()
    assert (found["first_day"], len(found["days"])) == ("2025-05-05", 28)
    assert sum(day["sessions"] for day in found["days"]) == found["sessions"]["value"]
    assert analytics("/dashboard/overview?days=29").status_code == 422


def test_users_are_filtered_paged_and_the_busiest_come_first(analytics: Ask, sessions: list[dict[str, str]]) -> None:
    everybody = analytics("/users?limit=100").json()
    assert everybody["total"] == len(everybody["items"]) == 40
    assert sum(user["sessions"] for user in everybody["items"]) == len(sessions)
    counts = [user["sessions"] for user in everybody["items"]]
    assert counts == sorted(counts, reverse=True)
    team = analytics("/users?plan=team&limit=1&offset=1").json()
    assert team["total"] == 8
    assert [(user["id"], user["sessions"], user["minutes"]) for user in team["items"]] == [("u01", 22, 168)]
    assert analytics("/users?country=XX").json() == {"total": 0, "items": []}


def test_one_user_is_shown_and_an_unknown_one_is_not_found(analytics: Ask) -> None:
    assert analytics("/users/u07").json()["minutes"] == 63
    assert analytics("/users/u99").status_code == 404


@pytest.mark.parametrize("path", ["/summary", "/dashboard/overview", "/dashboard/overview?days=28", "/users/u07"])
def test_version_2_answers_what_version_1_answers_and_more(analytics: Ask, analytics_v2: Ask, path: str) -> None:
    first, second = analytics(path).json(), analytics_v2(path).json()
    assert first.items() < second.items()


def test_version_2_says_where_people_are_from_and_who_comes_back(
    analytics_v2: Ask, sessions: list[dict[str, str]]
) -> None:
    now = {row["user"] for row in sessions if "2025-05-26" <= row["day"] <= "2025-06-01"}
    before = {row["user"] for row in sessions if "2025-05-19" <= row["day"] <= "2025-05-25"}
    ever = {row["user"] for row in sessions if row["day"] < "2025-05-26"}
    found = analytics_v2("/summary").json()
    assert found["retention"] == round(len(now & before) / len(before), 3)
    assert sum(country["users"] for country in found["countries"]) == 40
    assert sum(country["sessions"] for country in found["countries"]) == len(sessions)
    overview = analytics_v2("/dashboard/overview").json()
    assert (overview["new_users"], overview["returning_users"]) == (len(now - ever), len(now & ever))
    assert sum(overview["sessions_by_country"].values()) == 61
    one = analytics_v2("/users/u07").json()
    assert one["minutes_per_session"] == round(one["minutes"] / one["sessions"], 1)
    assert one["favourite_page"] in {row["page"] for row in sessions if row["user"] == "u07"}


def test_the_configured_window_is_what_the_summary_covers(tmp_path: Path) -> None:
    for ask in serving("analytics_core", "analytics_core:AnalyticsCoreModule", tmp_path, {"windowDays": 1}):
        found = ask("/summary").json()
        assert (found["window_days"], found["active_users"]) == (1, 3)


def test_markets_are_listed_with_their_latest_price(pricing: Ask) -> None:
    found = {market["id"]: market for market in pricing("/markets").json()}
    assert list(found) == ["coffee-beans", "oat-milk", "printer-ink"]
    assert found["coffee-beans"] == {
        "id": "coffee-beans",
        "name": "Coffee beans, 1 kg",
        "currency": "EUR",
        "first_week": "2024-06-03",
        "last_week": "2025-05-26",
        "latest_price": 13.97,
    }


def test_a_market_is_analysed(pricing: Ask) -> None:
    with (EXAMPLES / "pricing_intelligence" / "data" / "sales.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["market"] == "coffee-beans"]
    found = pricing("/markets/analyse", {"market": "coffee-beans"}).json()
    prices = [float(row["price"]) for row in rows]
    assert found["prices"]["weeks"] == len(rows) == 52
    assert found["prices"]["mean"] == round(sum(prices) / 52, 2) == 14.88
    assert (found["prices"]["lowest"], found["prices"]["highest"]) == (min(prices), max(prices))
    assert found["trend"] == {"direction": "rising", "per_week": 0.0065, "percent_over_period": 2.3}
    assert found["elasticity"] == {
        "value": -1.96,
        "r_squared": 0.78,
        "sensitivity": "elastic",
        "revenue_if_price_rises_1_percent": -0.95,
    }
    assert found["revenue"] == round(sum(float(row["price"]) * int(row["units"]) for row in rows), 2)
    assert "lower price" in found["advice"]


def weeks(*observed: tuple[float, int]) -> dict[str, Any]:
    days = [f"2025-01-{6 + 7 * number:02}" for number in range(len(observed))]
    series = [{"week": day, "price": price, "units": units} for day, (price, units) in zip(days, observed, strict=True)]
    return {"observations": series}


def test_the_elasticity_of_ones_own_weeks_is_exact_where_the_data_are(pricing: Ask) -> None:
    # units = 10,000 · price⁻²
    found = pricing("/markets/analyse", weeks((1, 10_000), (2, 2_500), (4, 625))).json()
    assert (found["elasticity"]["value"], found["elasticity"]["r_squared"]) == (-2, 1)
    assert found["elasticity"]["revenue_if_price_rises_1_percent"] == -0.99
    assert found["trend"]["direction"] == "rising"
    hardly = pricing("/markets/analyse", weeks((4, 100), (2, 110), (1, 121))).json()
    assert (hardly["elasticity"]["sensitivity"], hardly["trend"]["direction"]) == ("inelastic", "falling")
    assert "higher price" in hardly["advice"]


def test_prices_that_do_not_move_or_explain_nothing_give_no_advice(pricing: Ask) -> None:
    still = pricing("/markets/analyse", weeks((5, 10), (5, 20), (5, 30))).json()
    assert (still["elasticity"], still["trend"]["direction"]) == (None, "flat")
    assert "did not move" in still["advice"]
    noise = pricing("/markets/analyse", weeks((1, 10), (2, 20), (1, 20), (2, 10))).json()
    assert "explain too little" in noise["advice"]


def test_a_preview_is_open_and_covers_the_last_weeks_only(pricing: Ask) -> None:
    found = pricing("/markets/preview", {"market": "oat-milk"}).json()
    assert (found["weeks"], found["latest"], found["lowest"], found["highest"]) == (8, 2.0, 1.83, 2.19)


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({"market": "gold"}, 404),
        ({}, 422),
        ({"market": "oat-milk", "observations": []}, 422),
        (weeks((1, 1)), 422),
        ({"market": "oat-milk", "weeks": 1}, 422),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(pricing: Ask, question: dict[str, Any], status: int) -> None:
    assert pricing("/markets/analyse", question).status_code == status
