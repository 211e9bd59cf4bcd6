"""A folder of code is enough: discovery derives the manifest."""

import pytest

from tests.doubles.platform import Platform, module_source

pytestmark = pytest.mark.processes


def test_a_file_dropped_into_the_modules_path_is_served_after_discover(platform: Platform) -> None:
    (platform.modules / "dropped_in.py").write_text(module_source("dropped_in"))
    answer = platform.admin.post(f"{platform.control}/api/v1/module-management/modules/discover", json={})
    assert answer.status_code == 200, answer.text
    platform.wait_state("dropped-in", "ACTIVE")
    assert platform.call("v1/dropped-in/hello").json()["module"] == "dropped_in"
    stored = platform.object("modules", "dropped-in")
    assert stored is not None
    assert {field["manager"] for field in stored["metadata"]["managedFields"]} == {"modplane-discovery"}
    (platform.modules / "dropped_in.py").unlink()
    platform.cli("delete", "module/dropped-in")


def test_a_persons_fields_win_over_discoverys(platform: Platform) -> None:
    (platform.modules / "shared_words.py").write_text(module_source("shared_words"))
    platform.admin.post(f"{platform.control}/api/v1/module-management/modules/discover", json={}).raise_for_status()
    platform.wait_state("shared-words", "ACTIVE")
    patch = platform.admin.patch(
        f"{platform.control}/apis/modplane.dev/v1/modules/shared-words?fieldManager=ann",
        json={"spec": {"displayName": "Ann's words"}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert patch.status_code == 200, patch.text
    (platform.modules / "shared_words.py").write_text(module_source("shared_words", say="again"))
    platform.admin.post(f"{platform.control}/api/v1/module-management/modules/discover", json={}).raise_for_status()
    platform.wait_state("shared-words", "ACTIVE")
    stored = platform.object("modules", "shared-words")
    assert stored is not None
    assert stored["spec"]["displayName"] == "Ann's words"
    assert platform.call("v1/shared-words/hello").json()["say"] == "again"
    (platform.modules / "shared_words.py").unlink()
    platform.cli("delete", "module/shared-words")
