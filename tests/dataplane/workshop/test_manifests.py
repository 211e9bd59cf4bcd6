"""The workshop asks for a module exactly as the control plane would."""

from pathlib import Path

import pytest

from controlplane.admission import defaulting, validating
from controlplane.discovery import deriving
from controlplane.reconcile import accepting
from dataplane.errors import LoadFailed
from dataplane.workshop import manifests
from schemas.inspections import CandidateReport, InspectionOutcome, InspectionReport, RouteReport
from schemas.module import ModuleSpec
from schemas.policies import OPEN, AuthLevel, AuthRequirement

FULL = CandidateReport(
    entry_point="shop:Shop",
    module_id="my_shop",
    name="Shop",
    version="1.2.3",
    type="analytics",
    description="d",
    author="a",
    api_version="v2",
    namespace="shops",
    permissions=["read"],
    feature_flags=["beta"],
    dependencies=[{"name": "users", "version": ">=1"}],
    config_schema={"type": "object"},
    default_config={"a": 1},
)
TEXT = """\
apiVersion: modplane.dev/v1
kind: Module
metadata: {name: my_shop}
spec: {entryPoint: "shop.routes:Shop", auth: {level: ROLE, roles: [clerk]}, config: {a: 1}}
---
kind: Organisation
"""


@pytest.mark.parametrize("candidate", [FULL, CandidateReport(entry_point="shop:Shop", module_id="shop")])
def test_a_derived_manifest_is_discoverys(candidate: CandidateReport) -> None:
    normal, problems = validating.validate(deriving.manifest(candidate, "shop"))
    assert normal is not None
    assert problems == []
    name = normal["metadata"]["name"]
    full = ModuleSpec.model_validate(defaulting.default("Module", name, normal["spec"]))
    ours = manifests.derived(candidate, "shop")
    assert (ours.name, ours.top, ours.file) == (name, "shop", "")
    assert ModuleSpec.model_validate(defaulting.default("Module", name, ours.spec.wire())) == full


def test_a_worker_would_be_told_the_same(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(TEXT)
    (manifest,) = manifests.read(tmp_path / "m.yaml")
    assert (manifest.name, manifest.top, manifest.file) == ("my-shop", "shop", str(tmp_path / "m.yaml"))
    auth = AuthRequirement(level=AuthLevel.PERMISSION, permissions=["read"])
    routes = [RouteReport(methods=["get"], path="/a", auth=auth), RouteReport(methods=["POST"], path="/b")]
    report = InspectionReport(id="1", outcome=InspectionOutcome.OK, routes=routes)
    digest = "sha256:" + "0" * 64
    source = manifest.spec.source.model_copy(update={"digest": digest})
    theirs = accepting.desired_module("my-shop", manifest.spec.model_copy(update={"source": source}), report)
    assert manifests.desired(manifest, digest, report, guarded=True) == theirs
    opened = manifests.desired(manifest, digest, report, guarded=False)
    assert {route.policy for route in opened.routes if route.policy != OPEN} == set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "m.yaml:1:5: "),
        ("kind: Module\nspec: {}\n", "/metadata/name: is missing"),
        ("kind: Module\nmetadata: {name: a}\nspec: {}\n", "/spec/entryPoint: Field required"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(LoadFailed) as caught:
        manifests.read(tmp_path / "m.yaml")
    assert caught.value.reason == "ManifestInvalid"
    assert words in caught.value.message


def test_a_file_that_is_gone_and_metadata_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="cannot be read"):
        manifests.read(tmp_path / "nowhere.yaml")
    with pytest.raises(LoadFailed, match=r"shop:Shop: routing.apiVersion"):
        manifests.derived(FULL.model_copy(update={"api_version": "v9"}), "shop")
