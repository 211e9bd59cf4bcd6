"""What an examination tells of packed code, in this process."""

from pathlib import Path

import pytest

from dataplane.inspection import examining
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest
from schemas.policies import AuthLevel
from tests.doubles import sources

HEAD = "from dataplane.sdk import BaseModuleRouter, ModuleMetadata, ModuleRouteConfig\n"


def examine(root: Path, files: dict[str, str], top: str, entry_point: str | None = None) -> InspectionReport:
    digest = sources.store(root, files)
    folder = root / digests.folder_name(digest)
    request = InspectionRequest(id="1", root=str(folder), source_path=top, digest=digest, entry_point=entry_point)
    return examining.examine(request)


def test_the_example_of_the_architecture_page_is_found_with_its_own_words(tmp_path: Path) -> None:
    report = examine(tmp_path, {"analytics_core.py": sources.EXAMPLE}, "analytics_core.py")
    (candidate,) = report.candidates
    assert candidate.entry_point == "analytics_core:AnalyticsCoreModule"
    assert (candidate.module_id, candidate.name, candidate.version) == ("analytics_core", "Analytics Core", "1.0.0")
    assert (candidate.type, candidate.permissions) == ("analytics", ["read_analytics"])


def test_its_routes_are_reported_with_auth_and_line(tmp_path: Path) -> None:
    files = {"analytics_core/__init__.py": sources.EXAMPLE}
    report = examine(tmp_path, files, "analytics_core", "analytics_core:AnalyticsCoreModule")
    (route,) = report.routes
    assert (route.methods, route.path, route.name) == (["GET"], "/dashboard/overview", "overview")
    assert route.location == "analytics_core/__init__.py:12"
    assert route.auth is not None
    assert (route.auth.level, route.auth.permissions) == (AuthLevel.PERMISSION, ["read_analytics"])


def test_every_concrete_subclass_is_a_candidate_wherever_in_the_package(tmp_path: Path) -> None:
    module = "class {0}(Shared):\n    metadata = ModuleMetadata(module_id='{1}', dependencies=['a', {{'name': 'b'}}])\n"
    route = "    def register_routes(self, router): ...\n"
    files = {
        "shop/__init__.py": "",
        "shop/shared.py": HEAD + "class Shared(BaseModuleRouter):\n    ...\nclass _Hidden(Shared):\n" + route,
        "shop/parts/one.py": HEAD + "from shop.shared import Shared\n" + module.format("One", "one") + route,
        "shop/two.py": HEAD + "from .shared import Shared\n" + module.format("Two", "two") + route,
        "shop/__main__.py": "raise SystemExit('BaseModuleRouter')\n",
        "shop/plain.py": "raise SystemExit('not needed')\n",
    }
    report = examine(tmp_path, files, "shop")
    assert report.outcome is InspectionOutcome.OK, report.message
    assert [candidate.entry_point for candidate in report.candidates] == ["shop.parts.one:One", "shop.two:Two"]
    assert report.candidates[0].dependencies == [{"name": "a"}, {"name": "b"}]


def test_code_without_a_module_offers_nothing(tmp_path: Path) -> None:
    report = examine(tmp_path, {"tools.py": "X = 1\n"}, "tools")
    assert (report.outcome, report.candidates) == (InspectionOutcome.OK, [])


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ("import shop.nothing\n", "ImportFailed", "shop.py:1: ModuleNotFoundError: No module named 'shop.nothing'"),
        (
            HEAD + "class M(BaseModuleRouter):\n    def register_routes(self, router): ...\n",
            "CreateFailed",
            "M does not say who it is",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m', permissions=[1])\n"
            "    def register_routes(self, router): ...\n",
            "MetadataInvalid",
            "permissions",
        ),
        (
            HEAD
            + "class M(BaseModuleRouter):\n    metadata = ModuleMetadata(module_id='m', default_config={'x': {1}})\n"
            "    def register_routes(self, router): ...\n",
            "",
            "",
        ),
        (
            HEAD + "class M(BaseModuleRouter):\n"
            "    metadata = ModuleMetadata(module_id='m', default_config={'x': object()})\n"
            "    def register_routes(self, router): ...\n",
            "MetadataInvalid",
            "serialize",
        ),
    ],
)
def test_what_is_wrong_is_reported_not_raised(tmp_path: Path, text: str, reason: str, message: str) -> None:
    report = examine(tmp_path, {"shop.py": text}, "shop")
    assert report.reason == reason
    assert message in report.message


def test_a_source_that_is_not_there_is_reported(tmp_path: Path) -> None:
    request = InspectionRequest(id="1", root=str(tmp_path), source_path="x", digest="sha256:" + "0" * 64)
    assert examining.examine(request).reason == "SourceMissing"
