"""Whatever is handed in as a manifest, its author is told where and why; good ones are taken, everybody serves on."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.bench import documents
from tests.doubles import corpora
from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running
from tests.doubles.traffic import flowing

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(600)]

CORPUS: Final = corpora.files("manifests")
BAD: Final = {name: data for name, data in CORPUS.items() if name.startswith("bad-")}
MODULES: Final = "/apis/modplane.dev/v1/modules"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("manifests"), examples=False, environment=BY_HAND) as platform:
        (platform.modules / "calm.py").write_text(module_source("calm"))
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest("calm"))
        yield platform


@pytest.fixture(autouse=True)
def undisturbed(platform: Platform) -> Iterator[None]:
    """Another module serves all the while, and the control plane is the one that it was."""
    before = platform.child("controlplane", "serve").pid
    with flowing(f"{platform.door}/api/v1/modules/v1/calm/hello", callers=1) as calm:
        yield
    assert calm.only(200), (calm.answers, calm.failures)
    assert platform.child("controlplane", "serve").pid == before


def test_a_folder_of_everything_that_can_be_wrong_is_told_file_by_file(platform: Platform, tmp_path: Path) -> None:
    for name, data in BAD.items():
        (tmp_path / f"{name}.yaml").write_bytes(data)
    (tmp_path / "good.yaml").write_bytes(CORPUS["good-plain"].replace(b"thing}", b"taken}"))
    said = platform.cli("apply", "-f", str(tmp_path), check=1)
    assert "module/taken created" in said
    assert platform.object("modules", "taken") is not None
    told = {Path(found).name for found in re.findall(r"^(.+\.yaml):\d+:\d+: ", said, re.MULTILINE)}
    assert told == {f"{name}.yaml" for name in BAD}


@pytest.mark.parametrize("kind", ["application/apply-patch+yaml", "application/json", "application/merge-patch+json"])
def test_the_server_refuses_the_same_with_a_status(platform: Platform, kind: str) -> None:
    method, path = ("POST", MODULES) if kind == "application/json" else ("PATCH", f"{MODULES}/calm")
    before = platform.object("modules", "calm")
    for name, data in BAD.items():
        answer = platform.admin.request(
            method, f"{platform.control}{path}?fieldManager=me", content=data, headers={"content-type": kind}
        )
        assert 400 <= answer.status_code < 500, (name, answer.text)
        assert answer.json()["kind"] == "Status", name
    assert platform.object("modules", "calm") == before


def test_of_ten_thousand_documents_the_good_ones_are_applied(platform: Platform, tmp_path: Path) -> None:
    organisation = (
        "apiVersion: modplane.dev/v1\nkind: Organisation\nmetadata: {{name: o-{0}}}\nspec:\n  displayName: {0}x\n"
    )
    texts = [organisation.format(number) for number in range(documents.COUNT)]
    for number in range(0, documents.COUNT, 20):
        texts[number] = texts[number].replace("displayName", "displayNam")
    (tmp_path / "stream.yaml").write_text("---\n".join(texts))
    said = platform.cli("apply", "-f", str(tmp_path / "stream.yaml"), check=1, timeout=500)
    assert said.count(" created\n") == 9_500
    assert said.count("Did you mean 'displayName'?") == 500
    assert "stream.yaml:5:3: /spec/displayNam: " in said
    assert "500 problems: 500 of 10000 manifests left out, the others applied" in said
