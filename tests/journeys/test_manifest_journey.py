"""The main job, hop by hop: a manifest is applied, its routes answer, it changes, it goes."""

import asyncio
import json

import pytest

from tests.doubles.events import sequences, states, stored_events
from tests.doubles.platform import Platform, manifest, module_source
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes


def test_a_manifest_walks_to_active_and_back_while_traffic_flows(platform: Platform) -> None:
    (platform.modules / "journey.py").write_text(module_source("journey"))
    text = manifest("journey")

    with flowing(f"{platform.door}/api/v1/modules/v1/my-module/hello") as traffic:
        # cli → api → store
        assert platform.call("v1/journey/hello").status_code == 404
        assert platform.cli("apply", "-f", "-", stdin=text).strip() == "module/journey created"
        # → reconcile → NATS → worker → gateway → report → status
        assert "state=ACTIVE" in platform.cli("wait", "module/journey", "--for=state=ACTIVE", "--timeout=20")
        answer = platform.call("v1/journey/hello")
        assert (answer.status_code, answer.json()["say"]) == (200, "hello")
        refused = platform.call("v1/journey/guarded")
        assert refused.status_code == 401
        assert "www-authenticate" in refused.headers
        assert platform.call("v1/journey/health").json() == {"status": "healthy"}

        # the same again changes nothing
        before = platform.object("modules", "journey")
        assert platform.cli("apply", "-f", "-", stdin=text).strip() == "module/journey unchanged"
        assert platform.object("modules", "journey") == before
        assert before is not None
        uid = before["metadata"]["uid"]

        # new code is a new generation; the routes change without a failed request elsewhere
        (platform.modules / "journey.py").write_text(module_source("journey", say="servus", version="1.1.0"))
        text = manifest("journey", version="1.1.0")
        out = platform.cli("apply", "--wait", "-f", "-", stdin=text)
        assert "module/journey configured" in out
        assert platform.call("v1/journey/hello").json()["say"] == "servus"

        # deletion: routes go, then the object
        platform.cli("delete", "module/journey")
        assert platform.object("modules", "journey") is None
        assert platform.call("v1/journey/hello").status_code == 404

    assert traffic.calls > 20
    assert traffic.only(200), (traffic.answers, traffic.failures)

    async def read() -> list[dict[str, object]]:
        async with platform.nats() as client:
            return await stored_events(client, "modplane.events.module.journey.>")

    events = asyncio.run(read())
    assert states(events, uid) == [
        "DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE",
        "DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE",
        "UNREGISTERED",
    ]  # fmt: skip
    assert sequences(events, uid) == list(range(1, 10))


def test_each_hop_leaves_its_record(platform: Platform) -> None:
    (platform.modules / "hops.py").write_text(module_source("hops"))
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("hops"))
    stored = platform.object("modules", "hops")
    assert stored is not None
    digest = stored["spec"]["source"]["digest"]
    assert (platform.data / "code" / digest.removeprefix("sha256:") / "hops.py").exists()
    status = stored["status"]
    assert status["observedGeneration"] == stored["metadata"]["generation"] == 1
    assert status["serving"]["generation"] == 1
    assert status["workers"] == {"desired": 1, "applied": 1, "rejected": 0, "joining": 0, "lost": 0}
    assert {"method": "GET", "path": "/hello", "auth": "NONE"} in status["routes"]
    assert {"method": "GET", "path": "/guarded", "auth": "BASIC"} in status["routes"]
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    for name in ("Valid", "RoutesAccepted", "DependenciesReady", "Registered", "Programmed", "Ready"):
        assert conditions[name] == "True", status["conditions"]

    async def read() -> tuple[dict[str, object], dict[str, object]]:
        async with platform.nats("controlplane") as client:
            bucket = await client.jetstream().key_value("MODPLANE_DESIRED")
            document = await bucket.get("module.hops")
            head = await bucket.get("head")
            assert document.value is not None
            assert head.value is not None
            return json.loads(document.value), json.loads(head.value)

    document, head = asyncio.run(read())
    assert document["uid"] == stored["metadata"]["uid"]
    assert json.loads(str(document["payload"]))["digest"] == digest
    assert (head["epoch"], head["revision"]) >= (document["epoch"], document["revision"])

    described = platform.cli("describe", "module", "hops")
    for word in ("ACTIVE", "Programmed", "/api/v1/modules/v1/hops/hello", "REGISTERED"):
        assert word in described
    listed = platform.cli("get", "modules")
    assert [line.split()[:2] for line in listed.splitlines() if line.startswith("hops")] == [["hops", "ACTIVE"]]
    platform.cli("delete", "module/hops")


def test_a_deleted_and_recreated_name_is_a_new_object_with_the_new_answer(platform: Platform) -> None:
    uids = []
    for round_ in range(3):
        (platform.modules / "phoenix.py").write_text(module_source("phoenix", say=f"life {round_}"))
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest("phoenix"))
        stored = platform.object("modules", "phoenix")
        assert stored is not None
        assert stored["metadata"]["generation"] == 1
        uids.append(stored["metadata"]["uid"])
        assert platform.call("v1/phoenix/hello").json()["say"] == f"life {round_}"
        platform.cli("delete", "module/phoenix")
        assert platform.call("v1/phoenix/hello").status_code == 404
    assert len(set(uids)) == 3


def test_a_module_that_cannot_be_imported_is_an_error_with_file_and_line(platform: Platform) -> None:
    (platform.modules / "broken.py").write_text('"""Broken."""\n\nimport no_such_package\n')
    out = platform.cli("apply", "-f", "-", "--wait", stdin=manifest("broken"), check=1)
    assert "broken.py:3" in out
    assert "no_such_package" in out
    stored = platform.object("modules", "broken")
    assert stored is not None
    assert stored["status"]["state"] == "ERROR"
    (platform.modules / "broken.py").write_text(module_source("broken"))
    platform.cli("apply", "-f", "-", "--wait", stdin=manifest("broken", description="mended"))
    assert platform.call("v1/broken/hello").status_code == 200
    platform.cli("delete", "module/broken")


def test_a_dependency_is_waited_for_and_wakes_the_dependent(platform: Platform) -> None:
    for name in ("base_part", "upper_part"):
        (platform.modules / f"{name}.py").write_text(module_source(name))
    upper = manifest("upper_part", dependencies=[{"name": "base_part", "version": ">=1.2 <2"}])
    platform.cli("apply", "-f", "-", stdin=upper)
    platform.cli("wait", "module/upper-part", "--for=state=VALIDATED", "--timeout=20")
    assert platform.call("v1/upper-part/hello").status_code == 404
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("base_part", version="1.4.0"))
    platform.cli("wait", "module/upper-part", "--for=condition=Ready", "--timeout=20")
    assert platform.call("v1/upper-part/hello").status_code == 200
    platform.cli("delete", "module/base-part")
    assert platform.call("v1/upper-part/hello").status_code == 200
    platform.cli("delete", "module/upper-part")


def test_a_suspended_module_keeps_serving_what_it_served(platform: Platform) -> None:
    (platform.modules / "paused.py").write_text(module_source("paused", say="one"))
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("paused"))
    (platform.modules / "paused.py").write_text(module_source("paused", say="two"))
    platform.cli("apply", "-f", "-", stdin=manifest("paused", suspend=True, version="2.0.0"))
    platform.cli("wait", "module/paused", "--for=condition=Suspended", "--timeout=20")
    assert platform.call("v1/paused/hello").json()["say"] == "one"
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("paused", version="2.0.0"))
    assert platform.call("v1/paused/hello").json()["say"] == "two"
    platform.cli("delete", "module/paused")


def test_the_examples_are_served_and_compute_their_answers(platform: Platform) -> None:
    names = {line.split()[0] for line in platform.cli("get", "modules").splitlines()[1:]}
    assert {"analytics-core", "pricing-intelligence", "my-module"} <= names
    for name in ("analytics-core", "pricing-intelligence", "my-module"):
        platform.wait_state(name, "ACTIVE")
    assert platform.call("v1/analytics-core/dashboard/overview").status_code == 401


def test_offline_validation_names_file_line_and_column(platform: Platform) -> None:
    bad = platform.home / "bad.yaml"
    bad.write_text(
        "apiVersion: modplane.dev/v1\nkind: Module\nmetadata: {name: bad}\nspec:\n"
        "  entryPoint: bad:Bad\n  tpye: core\n  stage: actve\n"
    )
    out = platform.cli("validate", "-f", str(bad), check=1)
    assert f"{bad}:6:" in out or "bad.yaml:6:" in out
    assert "type" in out
    assert "active" in out
