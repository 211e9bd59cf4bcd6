"""Writing over HTTP, as kubectl and scripts do it."""

import asyncio
from typing import Any

import httpx
import pytest

from controlplane.store.records import Record
from schemas.meta import Json
from tests.doubles.apiparts import MODULES, Parts, module, organisation

APPLY = "/apis/modplane.dev/v1/apply"
ORGANISATIONS = "/apis/modplane.dev/v1/organisations"
MERGE = {"content-type": "application/merge-patch+json"}


def causes(answer: httpx.Response) -> dict[str, str]:
    return {cause["field"]: cause["message"] for cause in answer.json()["details"]["causes"]}


async def stored(parts: Parts, name: str = "orders", kind: str = "Module") -> Record | None:
    return await parts.store.read(lambda reading: reading.get(kind, name))


async def test_create_answers_201_with_the_whole_object(parts: Parts) -> None:
    answer = await parts.client.post(MODULES, json=module(labels={"team": "a"}))
    assert answer.status_code == 201
    body = answer.json()
    assert body["metadata"]["generation"] == 1
    assert body["metadata"]["finalizers"] == ["modplane.dev/routes"]
    assert body["spec"]["routing"] == {"apiVersion": "v1", "namespace": "orders"}
    assert body["status"]["state"] == "DISCOVERED"


async def test_create_of_a_taken_name_is_a_conflict(parts: Parts) -> None:
    await parts.client.post(MODULES, json=module())
    answer = await parts.client.post(MODULES, json=module())
    assert (answer.status_code, answer.json()["reason"]) == (409, "AlreadyExists")


async def test_every_problem_is_told_at_once_with_its_field(parts: Parts) -> None:
    bad = module(entryPoint="x", verson="1.0.0", limits={"timeoutSeconds": -1})
    answer = await parts.client.post(MODULES, json=bad)
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    found = causes(answer)
    assert set(found) == {"spec.entryPoint", "spec.verson", "spec.limits.timeoutSeconds"}
    assert "version" in found["spec.verson"]
    assert answer.json()["details"] | {"causes": []} == {
        "name": "orders",
        "group": "modplane.dev",
        "kind": "Module",
        "causes": [],
    }


async def test_a_document_of_another_kind_than_its_address_is_refused(parts: Parts) -> None:
    answer = await parts.client.post(MODULES, json=organisation())
    assert answer.status_code == 422
    assert "metadata.name" in causes(answer)


async def test_replace_with_a_stale_version_is_a_conflict(parts: Parts) -> None:
    first = (await parts.client.post(MODULES, json=module())).json()
    second = {**first, "spec": {**first["spec"], "version": "2.0.0"}}
    replaced = await parts.client.put(f"{MODULES}/orders", json=second)
    assert (replaced.status_code, replaced.json()["metadata"]["generation"]) == (200, 2)
    stale = await parts.client.put(f"{MODULES}/orders", json=second)
    assert (stale.status_code, stale.json()["reason"]) == (409, "Conflict")
    assert "read it again" in stale.json()["message"]


async def test_replace_without_a_version_is_unconditional_and_keeps_our_finalizer(parts: Parts) -> None:
    await parts.client.post(MODULES, json=module())
    answer = await parts.client.put(f"{MODULES}/orders", json=module(version="2.0.0"))
    assert answer.status_code == 200
    assert answer.json()["metadata"]["finalizers"] == ["modplane.dev/routes"]


async def test_replace_of_nothing_is_not_found(parts: Parts) -> None:
    answer = await parts.client.put(f"{MODULES}/orders", json=module())
    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound")
    assert answer.json()["message"] == 'modules.modplane.dev "orders" not found'


async def test_a_write_that_changes_nothing_moves_nothing(parts: Parts) -> None:
    first = (await parts.apply(module(labels={"a": "b"}))).json()["metadata"]
    again = (await parts.apply(module(labels={"a": "b"}))).json()["metadata"]
    patched = await parts.client.patch(f"{MODULES}/orders", json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    replaced = await parts.client.put(f"{MODULES}/orders", json=patched.json())
    assert first == again == patched.json()["metadata"] == replaced.json()["metadata"]
    assert parts.store.revision == int(first["resourceVersion"]) + 1  # its event


async def test_labels_do_not_move_the_generation(parts: Parts) -> None:
    await parts.apply(module())
    answer = await parts.client.patch(f"{MODULES}/orders", json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    assert answer.json()["metadata"]["generation"] == 1
    assert answer.json()["metadata"]["labels"] == {"a": "b"}


async def test_a_merge_patch_removes_with_null_and_falls_back_to_the_default(parts: Parts) -> None:
    await parts.apply(module(version="3.0.0", type="analytics"))
    answer = await parts.client.patch(f"{MODULES}/orders", json={"spec": {"version": None}}, headers=MERGE)
    assert answer.json()["spec"]["version"] == "0.0.0"
    assert answer.json()["spec"]["type"] == "analytics"


async def test_a_merge_patch_is_validated_as_a_whole(parts: Parts) -> None:
    await parts.apply(module())
    answer = await parts.client.patch(f"{MODULES}/orders", json={"spec": {"entryPoint": None, "x": 1}}, headers=MERGE)
    assert answer.status_code == 422
    assert set(causes(answer)) == {"spec.entryPoint", "spec.x"}
    renamed = await parts.client.patch(f"{MODULES}/orders", json={"metadata": {"name": "other"}}, headers=MERGE)
    assert renamed.status_code == 422


async def test_a_merge_patch_with_a_stale_version_is_a_conflict(parts: Parts) -> None:
    await parts.apply(module())
    patch = {"metadata": {"resourceVersion": "99"}, "spec": {"version": "1.0.0"}}
    answer = await parts.client.patch(f"{MODULES}/orders", json=patch, headers=MERGE)
    assert answer.status_code == 409


async def test_a_json_patch(parts: Parts) -> None:
    await parts.apply(module())
    answer = await parts.client.patch(
        f"{MODULES}/orders",
        json=[{"op": "replace", "path": "/spec/version", "value": "2.0.0"}],
        headers={"content-type": "application/json-patch+json"},
    )
    assert answer.json()["spec"]["version"] == "2.0.0"


async def test_apply_creates_with_201_and_configures_with_200(parts: Parts) -> None:
    assert (await parts.apply(module())).status_code == 201
    assert (await parts.apply(module(version="1.0.0"))).status_code == 200


async def test_apply_takes_yaml_as_well(parts: Parts) -> None:
    answer = await parts.client.patch(
        f"{MODULES}/orders?fieldManager=me",
        content="apiVersion: modplane.dev/v1\nkind: Module\nspec: {entryPoint: 'orders:Orders'}\nmetadata: {}\n",
        headers={"content-type": "application/apply-patch+yaml"},
    )
    assert answer.status_code == 201


@pytest.mark.parametrize("body", ["a: 1\n---\nb: 2\n", "- 1\n", "a: [\n", "{", "a: 1\na: 2\n"])
async def test_apply_of_anything_but_one_object_is_refused(parts: Parts, body: str) -> None:
    answer = await parts.client.patch(
        f"{MODULES}/orders?fieldManager=me", content=body, headers={"content-type": "application/apply-patch+yaml"}
    )
    assert answer.status_code in (400, 422)


async def test_an_apply_conflict_names_the_owner_and_force_takes_the_field(parts: Parts) -> None:
    await parts.apply(module(version="1.0.0"), manager="alice")
    conflict = await parts.apply(module(version="2.0.0"), manager="bob")
    assert conflict.status_code == 409
    assert conflict.json()["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "alice"', "field": ".spec.version"}
    ]
    forced = await parts.apply(module(version="2.0.0"), manager="bob", force="true")
    assert forced.json()["spec"]["version"] == "2.0.0"
    assert (await parts.apply(module(version="1.0.0"), manager="alice")).status_code == 409


async def test_ownership_is_shown_in_the_form_that_kubectl_reads(parts: Parts) -> None:
    entries = (await parts.apply(module(labels={"a": "b"}), manager="alice")).json()["metadata"]["managedFields"]
    (alice,) = [entry for entry in entries if entry["manager"] == "alice"]
    assert alice["operation"] == "Apply"
    assert alice["fieldsType"] == "FieldsV1"
    assert alice["fieldsV1"] == {"f:metadata": {"f:labels": {}}, "f:spec": {"f:entryPoint": {}}}


async def test_apply_needs_a_manager(parts: Parts) -> None:
    answer = await parts.client.patch(
        f"{MODULES}/orders", json=module(), headers={"content-type": "application/apply-patch+yaml"}
    )
    assert answer.status_code == 400
    assert "fieldManager" in answer.json()["message"]


async def test_a_part_without_spec_is_applied_to_what_is_there(parts: Parts) -> None:
    part = {"apiVersion": "modplane.dev/v1", "kind": "Module", "metadata": {"name": "orders", "labels": {"a": "b"}}}
    assert (await parts.apply(part, manager="labels")).status_code == 422
    await parts.apply(module(version="1.0.0"), manager="alice")
    answer = await parts.apply(part, manager="labels")
    assert answer.status_code == 200
    assert answer.json()["metadata"]["labels"] == {"a": "b"}
    assert answer.json()["spec"]["version"] == "1.0.0"


async def test_a_dry_run_shows_the_future_and_writes_nothing(parts: Parts) -> None:
    await parts.apply(module())
    revision = parts.store.revision
    answer = await parts.apply(module(version="2.0.0"), dryRun="All")
    assert answer.json()["metadata"]["generation"] == 2
    assert (await parts.client.post(f"{MODULES}?dryRun=All", json=module("other"))).status_code == 201
    assert (await parts.client.delete(f"{MODULES}/orders?dryRun=All")).json()["metadata"]["deletionTimestamp"]
    refused = await parts.client.post(f"{MODULES}?dryRun=All", json=module())
    assert refused.status_code == 409
    assert parts.store.revision == revision
    found = await stored(parts)
    assert found is not None
    assert (found.generation, found.deleting) == (1, False)


async def test_dry_run_has_one_value(parts: Parts) -> None:
    assert (await parts.client.post(f"{MODULES}?dryRun=Some", json=module())).status_code == 400


async def test_a_list_is_one_transaction_with_an_answer_per_item(parts: Parts) -> None:
    await parts.apply(module("kept"), manager="me")
    items: list[Any] = [
        module("new"),
        module("kept"),
        module("bad", x=1),
        7,
        organisation(),
        module("new", version="1.0.0"),
    ]
    commits = parts.store.commits
    answer = await parts.client.post(APPLY, params={"fieldManager": "me"}, json={"items": items})
    assert answer.status_code == 200
    results = answer.json()["items"]
    assert [item["result"] for item in results] == ["created", "unchanged", "refused", "refused", "created", "refused"]
    assert results[2]["error"]["details"]["causes"][0]["field"] == "spec.x"
    assert 'Module "bad" is invalid' in results[2]["error"]["message"]
    assert "item 1" in results[5]["error"]["message"]
    assert results[0]["object"]["metadata"]["name"] == "new"
    assert parts.store.commits == commits + 1


async def test_a_thousand_manifests_in_one_request(parts: Parts) -> None:
    items = [module(f"m{number}") for number in range(1000)]
    commits = parts.store.commits
    answer = await parts.client.post(APPLY, params={"fieldManager": "me"}, json={"items": items})
    assert {item["result"] for item in answer.json()["items"]} == {"created"}
    assert parts.store.commits == commits + 1
    assert await parts.store.read(lambda reading: reading.count("Module")) == 1000


@pytest.mark.parametrize("body", [[], {}, {"items": 1}, "x"])
async def test_a_body_that_is_no_list_is_refused(parts: Parts, body: object) -> None:
    assert (await parts.client.post(APPLY, params={"fieldManager": "me"}, json=body)).status_code == 400


async def test_too_many_items_are_refused(parts: Parts) -> None:
    answer = await parts.client.post(APPLY, params={"fieldManager": "me"}, json={"items": [0] * 10_001})
    assert answer.status_code == 413


async def test_a_module_is_marked_for_deletion_and_an_organisation_goes_at_once(parts: Parts) -> None:
    await parts.apply(module())
    marked = await parts.client.delete(f"{MODULES}/orders")
    assert marked.status_code == 200
    assert marked.json()["metadata"]["deletionTimestamp"]
    again = await parts.client.delete(f"{MODULES}/orders")
    assert again.json()["metadata"]["resourceVersion"] == marked.json()["metadata"]["resourceVersion"]
    uid = (await parts.apply(organisation())).json()["metadata"]["uid"]
    gone = await parts.client.delete(f"{ORGANISATIONS}/acme")
    assert gone.json()["status"] == "Success"
    assert gone.json()["details"] == {"name": "acme", "group": "modplane.dev", "kind": "organisations", "uid": uid}
    assert (await parts.client.delete(f"{ORGANISATIONS}/acme")).status_code == 404


async def test_an_object_that_is_leaving_takes_no_new_spec(parts: Parts) -> None:
    await parts.apply(module())
    await parts.client.delete(f"{MODULES}/orders")
    for answer in (
        await parts.apply(module()),
        await parts.client.patch(f"{MODULES}/orders", json={"spec": {"version": "9.0.0"}}, headers=MERGE),
    ):
        assert answer.status_code == 409
        assert "is being deleted" in answer.json()["message"]
    labelled = await parts.client.patch(f"{MODULES}/orders", json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    assert labelled.status_code == 200


async def test_foreign_finalizers_hold_and_release(parts: Parts) -> None:
    document = organisation()
    document["metadata"]["finalizers"] = ["example.com/backup"]
    await parts.apply(document)
    assert "deletionTimestamp" in (await parts.client.delete(f"{ORGANISATIONS}/acme")).json()["metadata"]
    more = {"metadata": {"finalizers": ["example.com/backup", "example.com/more"]}}
    assert (await parts.client.patch(f"{ORGANISATIONS}/acme", json=more, headers=MERGE)).status_code == 409
    released = await parts.client.patch(f"{ORGANISATIONS}/acme", json={"metadata": {"finalizers": None}}, headers=MERGE)
    assert released.status_code == 200
    assert await stored(parts, "acme", "Organisation") is None


@pytest.mark.parametrize("preconditions", [{"uid": "another"}, {"resourceVersion": "99"}])
async def test_delete_checks_its_preconditions(parts: Parts, preconditions: Json) -> None:
    await parts.apply(module())
    answer = await parts.client.request(
        "DELETE", f"{MODULES}/orders", json={"kind": "DeleteOptions", "preconditions": preconditions}
    )
    assert answer.status_code == 409


async def test_delete_options_may_ask_for_a_dry_run(parts: Parts) -> None:
    await parts.apply(organisation())
    answer = await parts.client.request("DELETE", f"{ORGANISATIONS}/acme", json={"dryRun": ["All"]})
    assert answer.json()["status"] == "Success"
    assert await stored(parts, "acme", "Organisation") is not None


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_status_is_written_by_the_control_plane_only(parts: Parts, method: str) -> None:
    await parts.apply(module())
    answer = await parts.client.request(method, f"{MODULES}/orders/status", json={}, headers=MERGE)
    assert (answer.status_code, answer.json()["reason"]) == (405, "MethodNotAllowed")
    sneaked = await parts.client.patch(f"{MODULES}/orders", json={"status": {"state": "ACTIVE"}}, headers=MERGE)
    assert sneaked.json()["status"]["state"] == "DISCOVERED"


async def test_read_only_kinds_and_collections_refuse_writes(parts: Parts) -> None:
    for answer in (
        await parts.client.post("/apis/modplane.dev/v1/workers", json={}),
        await parts.client.delete("/apis/modplane.dev/v1/moduleevents/x"),
        await parts.client.delete(MODULES),
    ):
        assert answer.status_code == 405
        assert "allow" in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "media"),
    [
        ("POST", MODULES, "text/plain"),
        ("POST", MODULES, ""),
        ("POST", MODULES, "application/yaml"),
        ("POST", APPLY + "?fieldManager=me", "application/x-www-form-urlencoded"),
        ("PUT", f"{MODULES}/orders", "multipart/form-data"),
        ("PATCH", f"{MODULES}/orders", "application/strategic-merge-patch+json"),
        ("DELETE", f"{MODULES}/orders", "text/plain"),
    ],
)
async def test_other_content_types_are_refused(parts: Parts, method: str, path: str, media: str) -> None:
    answer = await parts.client.request(method, path, content=b"{}", headers={"content-type": media} if media else {})
    assert (answer.status_code, answer.json()["reason"]) == (415, "UnsupportedMediaType")


@pytest.mark.parametrize("body", [b"{", b"[1", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b"[" * 100_000, b"7"])
async def test_bodies_that_are_no_json_object_are_refused(parts: Parts, body: bytes) -> None:
    answer = await parts.client.post(MODULES, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")


async def test_large_bodies_are_refused_before_they_are_read(parts: Parts) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65_536

    headers = {"content-type": "application/json"}
    for path in (MODULES, APPLY + "?fieldManager=me"):
        answer = await parts.client.post(path, content=endless(), headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (413, "RequestEntityTooLarge")
    declared = await parts.client.post(MODULES, content=b" " * (1 << 21), headers=headers)
    assert declared.status_code == 413


async def test_an_object_over_64_kib_is_refused(parts: Parts) -> None:
    answer = await parts.client.post(MODULES, json=module(config={"text": "x" * 70_000}))
    assert (answer.status_code, answer.json()["reason"]) == (413, "RequestEntityTooLarge")


async def test_names_in_addresses_may_have_underscores(parts: Parts) -> None:
    answer = await parts.client.put(f"{MODULES}/my_orders", json=module("my_orders"))
    assert answer.status_code == 404
    await parts.client.post(MODULES, json=module("my_orders"))
    assert (await parts.client.get(f"{MODULES}/my_orders")).json()["metadata"]["name"] == "my-orders"


async def test_concurrent_replacements_lose_none_silently(parts: Parts) -> None:
    first = (await parts.client.post(MODULES, json=module())).json()
    wanted = [{**first, "spec": {**first["spec"], "version": f"{number}.0.0"}} for number in range(1, 9)]
    answers = await asyncio.gather(*(parts.client.put(f"{MODULES}/orders", json=document) for document in wanted))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
