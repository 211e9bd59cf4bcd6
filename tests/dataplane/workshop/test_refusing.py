"""The workshop refuses the routes that the control plane would refuse, and no others."""

from datetime import UTC, datetime

import pytest

from controlplane.reconcile import accepting
from controlplane.store.records import Claim
from dataplane.errors import LoadFailed
from dataplane.workshop import manifests, refusing
from schemas.inspections import InspectionOutcome, InspectionReport, RouteReport
from schemas.module import ModuleSpec
from schemas.policies import AuthLevel, AuthRequirement

READ = AuthRequirement(level=AuthLevel.PERMISSION, permissions=["read"])
WRITE = AuthRequirement(level=AuthLevel.PERMISSION, permissions=["reed", "write"])


def report(*routes: RouteReport) -> InspectionReport:
    return InspectionReport(id="1", outcome=InspectionOutcome.OK, routes=list(routes))


def route(path: str, *methods: str, auth: AuthRequirement | None = None) -> RouteReport:
    return RouteReport(methods=list(methods) or ["GET"], path=path, auth=auth, location="shop.py:7")


@pytest.mark.parametrize(
    "routes",
    [
        [],
        [route("/a"), route("/b/{id}"), route("/a", "POST")],
        [route("/a/{id}"), route("/a/{name}")],
        [route("/a", auth=READ)],
        [route("/a", auth=WRITE)],
        [route("/taken/{other}")],
        [route("/taken/{other}", "POST")],
        [route("/taken/{other}", "*")],
        [route("/a"), route("/a"), route("/b", auth=WRITE), route("/taken/{x}")],
    ],
)
@pytest.mark.parametrize("permissions", [[], ["read"]])
def test_the_control_plane_would_say_the_same(routes: list[RouteReport], permissions: list[str]) -> None:
    spec = ModuleSpec(entry_point="shop:Shop", permissions=permissions)
    rival = manifests.Manifest("rival", ModuleSpec(entry_point="r:R", routing={"namespace": "shop"}))
    theirs = manifests.desired(rival, "sha256:" + "0" * 64, report(route("/taken/{id}")), guarded=True)
    others = refusing.held([("rival", theirs)])
    claims = [
        Claim("v1", "shop", "GET", "/taken/{}", "/taken/{id}", "u2", "rival", 1, datetime(2030, 1, 1, tzinfo=UTC))
    ]
    wanted = accepting.refusal("shop", "u1", spec, report(*routes), claims)
    manifest = manifests.Manifest("shop", spec)
    if wanted is None:
        refusing.check(manifest, report(*routes), others)
        return
    with pytest.raises(LoadFailed) as caught:
        refusing.check(manifest, report(*routes), others)
    assert caught.value.reason == wanted.reason
    assert caught.value.message.startswith("shop.py:7: ")


def test_many_problems_are_told_as_a_few() -> None:
    many = report(*[route("/a")] * 9)
    with pytest.raises(LoadFailed, match="and 3 more"):
        refusing.check(manifests.Manifest("shop", ModuleSpec(entry_point="shop:Shop")), many, {})


def test_a_word_that_is_close_is_proposed() -> None:
    manifest = manifests.Manifest("shop", ModuleSpec(entry_point="shop:Shop", permissions=["read"]))
    with pytest.raises(LoadFailed) as caught:
        refusing.check(manifest, report(route("/a", auth=WRITE)), {})
    assert "did you mean 'read'?" in caught.value.message
    assert "add it to spec.permissions" in caught.value.message
