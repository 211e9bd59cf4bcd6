"""Scans over a real folder and a real store."""

from controlplane import errors
from controlplane.admission import owning
from schemas import names
from tests.controlplane.discovery.conftest import World
from tests.doubles import sources

HEAD = "apiVersion: modplane.dev/v1\nkind: Module\n"

FLAGGED = """
from dataplane.sdk import BaseModuleRouter, ModuleMetadata, ModuleRouteConfig

class Flagged(BaseModuleRouter):
    metadata = ModuleMetadata(
        module_id="flagged", version="2.0.0", feature_flags=["beta"], default_config={"n": 1}, dependencies=["small"],
        routing=ModuleRouteConfig(api_version="v2", namespace="shared"),
    )

    def register_routes(self, router):
        pass
"""


async def test_code_alone_becomes_a_module_with_its_own_words(world: World) -> None:
    sources.write(world.modules, {"analytics_core/__init__.py": sources.EXAMPLE})
    answer = await world.discovery.discover()
    assert (answer["scanned"], answer["applied"], answer["failed"]) == (1, ["analytics-core"], [])
    record = await world.module("analytics-core")
    assert record.spec["entryPoint"] == "analytics_core:AnalyticsCoreModule"
    assert record.spec["permissions"] == ["read_analytics"]
    assert (record.spec["displayName"], record.spec["type"]) == ("Analytics Core", "analytics")
    assert record.spec["source"]["digest"].startswith("sha256:")
    assert owning.owners_of(record.managed_fields, owning.DIGEST) == [names.MANAGER_DISCOVERY]


async def test_flags_go_to_the_floor_and_routing_follows_the_metadata(world: World) -> None:
    sources.write(world.modules, {"flagged.py": FLAGGED})
    await world.discovery.discover()
    spec = (await world.module("flagged")).spec
    assert (spec["auth"]["featureFlags"], spec["auth"]["level"]) == (["beta"], "NONE")
    assert spec["routing"] == {"apiVersion": "v2", "namespace": "shared"}
    assert spec["dependencies"] == [{"name": "small", "version": "*"}]
    assert spec["config"] == {"n": 1}


async def test_a_second_scan_changes_nothing_and_inspects_nothing(world: World) -> None:
    sources.write(world.modules, {"small.py": sources.SMALL})
    await world.discovery.discover()
    before = world.store.revision
    answer = await world.discovery.discover()
    assert (answer["applied"], answer["unchanged"], answer["updated"]) == ([], ["small"], [])
    assert world.inspector.asked == ["small"]
    assert world.store.revision == before


async def test_changed_code_is_a_new_digest_and_generation(world: World) -> None:
    sources.write(world.modules, {"small.py": sources.SMALL})
    await world.discovery.discover()
    before = await world.module("small")
    sources.write(world.modules, {"small.py": sources.SMALL + "\n# changed\n"})
    assert (await world.discovery.discover())["applied"] == ["small"]
    after = await world.module("small")
    assert after.generation == before.generation + 1
    assert after.spec["source"]["digest"] != before.spec["source"]["digest"]
    assert (await world.discovery.discover())["unchanged"] == ["small"]


async def test_a_persons_module_follows_its_code_unless_the_digest_is_pinned(world: World) -> None:
    sources.write(world.modules, {"small/__init__.py": sources.SMALL, "small/module.yaml": "[]"})
    document = {
        "apiVersion": names.API_VERSION,
        "kind": "Module",
        "metadata": {"name": "mine"},
        "spec": {"entryPoint": "small:Small", "description": "by hand"},
    }
    await world.writer.apply([document], manager="ann")
    first = await world.module("mine")
    sources.write(world.modules, {"small/__init__.py": sources.SMALL + "# two\n"})
    assert (await world.discovery.discover())["updated"] == ["mine"]
    second = await world.module("mine")
    assert second.generation == 2
    assert second.spec["description"] == "by hand"

    pin = {**document, "spec": {**document["spec"], "source": {"digest": first.spec["source"]["digest"]}}}  # type: ignore[dict-item]
    (outcome,) = await world.writer.apply([pin], manager="ann")
    assert outcome.error is None
    sources.write(world.modules, {"small/__init__.py": sources.SMALL + "# three\n"})
    answer = await world.discovery.discover()
    assert (answer["pinned"], answer["updated"]) == (["mine"], [])
    assert (await world.module("mine")).spec["source"]["digest"] == first.spec["source"]["digest"]


async def test_a_persons_fields_win_without_conflict(world: World) -> None:
    sources.write(world.modules, {"small.py": sources.SMALL})
    await world.discovery.discover()
    await world.writer.merge_patch("Module", "small", {"spec": {"version": "9.9.9"}}, manager="ann")
    answer = await world.discovery.discover()
    assert answer["failed"] == []
    assert (await world.module("small")).spec["version"] == "9.9.9"


async def test_a_manifest_beside_the_code_is_applied_instead_of_the_metadata(world: World) -> None:
    manifest = (
        "apiVersion: modplane.dev/v1\nkind: Module\nmetadata: {name: renamed}\nspec: {entryPoint: 'small:Small'}\n"
    )
    sources.write(world.modules, {"small/__init__.py": sources.SMALL, "small/module.yaml": manifest})
    assert (await world.discovery.discover())["applied"] == ["renamed"]
    assert await world.absent("small")
    assert world.inspector.asked == []


async def test_one_bad_thing_is_told_by_place_and_holds_up_no_other(world: World) -> None:
    double = sources.SMALL.replace("class Small", "class Again")
    bad = HEAD + "metadata: {name: bad}\nspec:\n  entryPoint: 'os:system'\n  typ: core\n"
    files = {
        "broken.py": "from dataplane.sdk import BaseModuleRouter\nimport nosuch\n",
        "small.py": sources.SMALL,
        "twice.py": double,
        "bad.yaml": bad,
        "wrong.py": sources.SMALL.replace('"small"', '"Wrong Name"'),
    }
    sources.write(world.modules, files)
    (world.modules / "linked").mkdir()
    (world.modules / "linked" / "x.py").symlink_to("/etc/passwd")
    answer = await world.discovery.discover()
    assert answer["applied"] == ["small"]
    failed: dict[str, str] = {}
    for failure in answer["failed"]:
        failed.setdefault(failure["path"], failure["message"])
    assert "ImportFailed: broken.py:2: ModuleNotFoundError" in failed["broken"]
    assert "small:Small has already" in failed["twice"]
    assert "module of Python itself" in failed["bad.yaml:5:15"]
    assert "Did you mean 'type'?" in failed["bad.yaml:6:3"]
    assert "symbolic link" in failed["linked"]
    assert "wrong" in failed


async def test_a_lost_source_deletes_nothing_and_is_reported(world: World) -> None:
    sources.write(world.modules, {"small.py": sources.SMALL})
    await world.discovery.discover()
    (world.modules / "small.py").unlink()
    answer = await world.discovery.discover()
    assert answer["missing"] == ["small"]
    assert not (await world.module("small")).deleting


async def test_a_module_stored_before_its_code_gets_it_later(world: World) -> None:
    document = {
        "apiVersion": names.API_VERSION,
        "kind": "Module",
        "metadata": {"name": "early"},
        "spec": {"entryPoint": "late:Small"},
    }
    await world.writer.apply([document], manager="ann")
    assert not (await world.module("early")).spec["source"].get("digest")
    sources.write(world.modules, {"late.py": sources.SMALL})
    answer = await world.discovery.discover()
    assert answer["updated"] == ["early"]
    assert (await world.module("early")).spec["source"]["digest"]


async def test_an_inspector_that_is_away_is_told(world: World) -> None:
    async def away(request: object) -> object:
        raise errors.Unreachable("the inspection process cannot be started")

    sources.write(world.modules, {"small.py": sources.SMALL})
    world.inspector.inspect = away  # type: ignore[method-assign, assignment]
    (failure,) = (await world.discovery.discover())["failed"]
    assert failure["message"] == "InspectionUnavailable: the inspection process cannot be started"
