"""A stream of manifests: every problem of the bad ones with its place, and no second look at the good ones."""

import collections

import pytest

from controlplane.admission import checking, composing, yamlreading
from controlplane.cli import manifests
from tests.bench import documents


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
