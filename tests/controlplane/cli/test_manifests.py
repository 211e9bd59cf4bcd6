"""A stream of manifests: every problem of the bad ones with its place, and no second look at the good ones."""

import collections
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.admission import checking, composing, yamlreading
from controlplane.cli import manifests
from tests.bench import documents
from tests.doubles import platform


def test_only_bad_documents_are_read_and_checked_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: collections.Counter[str] = collections.Counter()

    def counts(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def counting(*arguments: object) -> object:
            counted[name] += 1
            return real(*arguments)

        monkeypatch.setattr(owner, name, counting)

    counts(yamlreading, "CParser")
    counts(yamlreading, "read")
    counts(checking, "_told")
    data = documents.stream(documents.by_hand, 1_200)
    read = [manifests.Manifest("stream", document) for document in composing.compose(data)]
    assert len(read) == 1_200
    assert counted == {"CParser": 1_220, "read": 20}, "libyaml sees every document once, and what is no YAML twice"
    good, problems = manifests.sort_out(read)
    assert len(good) == 1_140
    assert len({line.split(": ")[0].split(":")[1] for line in problems}) == 60, "each bad one has its line"
    assert counted["read"] == 60, "places are looked up in bad documents, once in each"
    assert counted["_told"] == 20, "the model is asked for words where it refused, and nowhere else"


def test_problems_of_a_stream_name_line_and_column_and_what_was_meant() -> None:
    data = documents.stream(documents.by_hand, 60)
    lines = manifests.check([manifests.Manifest("s.yaml", document) for document in composing.compose(data)])
    assert lines[0] == (
        "s.yaml:2:7: /kind: kind must be Module, Organisation, ModuleAccess, FeatureFlag or Revocation, "
        "but is \"Modul\". Did you mean 'Module'?"
    )
    assert lines[1].startswith("s.yaml:186:3: /spec/versoin: spec.versoin is not a field that exists.")
    assert lines[1].endswith("Did you mean 'version'?")
    assert lines[2].endswith(": /spec/1: A ',' or ']' is missing. The bracket opened at line 364, column 7.")
    assert len(lines) == 3


_SHARED = """
from controlplane.cli import manifests, sharing
def told(count):
    sharing.processes = lambda: count
    found = manifests.read(["FOLDER"])
    seen = [(m.file, m.document.line, m.document.index, m.document.problems, m.value) for m in found]
    return seen, [m.verdict is not None for m in found], [lines for _, lines in manifests.checked(found)]
alone, shared = told(1), told(3)
print(alone[0] == shared[0], any(alone[1]), all(shared[1]), alone[2] == shared[2])
print(len(shared[0]), sum(map(bool, shared[2])))
"""


@pytest.mark.processes
def test_many_manifests_are_shared_out_and_told_as_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(documents.stream(documents.by_hand, 1_300))
    (tmp_path / "b.yaml").write_bytes(documents.stream(documents.with_texts, 100))
    (tmp_path / "c.json").write_text('{"kind": "List", "items": [{"apiVersion": "modplane.dev/v1", "kind": "Modul"}]}')
    (tmp_path / "d.yaml").write_bytes(b"a: 1\n---\n" * 100)
    ended = subprocess.run(
        [sys.executable, "-c", _SHARED.replace("FOLDER", str(tmp_path))],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
        cwd=platform.ROOT,
    )
    # 65 of a.yaml; all of b.yaml, whose good ones stand in a.yaml already; the item of c.json; all of d.yaml
    assert ended.stdout.decode() == "True False True True\n1501 266\n"


def test_the_files_of_a_folder_come_in_the_order_of_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("b.yaml", "a-1.json", "a/module.yaml", "a/other.yaml", ".c.yml", "d.txt", ".json", "e."):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    (tmp_path / "f.json").mkdir()
    (tmp_path / "linked.yaml").symlink_to("b.yaml")
    (tmp_path / "broken.yaml").symlink_to("nowhere")
    (tmp_path / "round.yaml").symlink_to("round.yaml")
    here = [".c.yml", "a/module.yaml", "a-1.json", "b.yaml", "linked.yaml"]
    assert manifests._files(f"{tmp_path}/", recursive=False) == [f"{tmp_path}/{name}" for name in here]
    monkeypatch.chdir(tmp_path)
    assert manifests._files(".", recursive=False) == here
    assert manifests._files("../" + tmp_path.name, recursive=True) == [
        f"../{tmp_path.name}/{name}" for name in [*here[:2], "a/other.yaml", *here[2:]]
    ]
