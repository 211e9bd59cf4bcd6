"""Whatever bytes come as a manifest: objects, or problems with places in reading order; no exception, no explosion."""

import json
import time
from typing import Any, Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.admission import bounds, composing, growing, validating, yamlreading
from schemas.meta import Json
from schemas.problems import Violation
from tests.doubles import corpora

CORPUS: Final = corpora.files("manifests")
MARKS: Final = [
    *(b"&a ", b"*a", b"!t ", b"<<: ", b"---\n", b"...\n", b"%YAML 1.2\n", b": ", b"- ", b"? ", b"#", b"|\n", b">-\n"),
    *(b"{", b"}", b"[", b"]", b",", b"'", b'"', b"\\", b"\n", b"\r", b"\t", b"\x00", b"\xff"),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xae", b"$ref", b"#/"),
    *(b"secret://", b"010", b"NO", b"1e999", b"NaN", b"~", b"null", b"kind: List\nitems:\n", b'"\\u0000"'),
]  # fmt: skip
INPUTS: Final = corpora.changed(list(CORPUS.values()), MARKS) | st.binary(max_size=300)
CPU_SECONDS: Final = 20.0
"""Far above what any input takes (below 0.2 s), and far below what an explosion would."""


def held(data: bytes, syntax: Literal["yaml", "json"] | None = None) -> tuple[list[Json], list[Violation]]:
    """The valid objects of a text and every problem of the others, with all that has to be true of them checked."""
    begun = time.process_time()
    objects: list[Json] = []
    problems: list[Violation] = []
    last_line = data.count(b"\n") + data.count(b"\r") + data.decode("utf-8", "replace").count("\x85") + 2
    for document in composing.compose(data, syntax=syntax):
        normal, found = (None, document.problems) if document.problems else validating.validate(document.value)
        assert (normal is None) == bool(found)
        assert len(found) <= max(growing.MAX_PROBLEMS, validating.MAX_VIOLATIONS)
        for problem in found:
            line, column = document.locate(problem)
            assert 1 <= line <= last_line
            assert column >= 1
            assert problem.message.endswith((".", "?"))
            assert len(problem.message) < 4_000
        if document.problems:
            places = [document.locate(problem) for problem in document.problems]
            assert places == sorted(places)
        problems += found
        if normal is not None:
            text, faults = bounds.encode(normal)
            assert not faults
            assert validating.validate(json.loads(text)) == (normal, [])
            objects.append(normal)
    assert time.process_time() - begun < CPU_SECONDS
    return objects, problems


@pytest.mark.parametrize("name", CORPUS)
def test_every_kept_input_becomes_what_its_name_says(name: str) -> None:
    objects, problems = held(CORPUS[name])
    if name.startswith("good-"):
        assert objects
        assert not problems
    else:
        assert problems


@given(INPUTS, st.sampled_from([None, "yaml", "json"]))
def test_any_bytes_become_objects_or_problems_with_places(data: bytes, syntax: Any) -> None:
    held(data, syntax)


@given(INPUTS)
def test_a_document_before_and_one_behind_come_through_whatever_stands_between(data: bytes) -> None:
    good = CORPUS["good-plain"]
    objects, _ = held(good + b"---\n" + data + b"\n---\n" + good.replace(b"thing}", b"other}"))
    assert [objects[0]["metadata"]["name"], objects[-1]["metadata"]["name"]] == ["thing", "other"]


@given(INPUTS)
def test_the_quick_reader_takes_nothing_that_the_careful_one_refuses(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    careful = growing.Growth(growing.Limits())
    value = yamlreading.read_fast(text, growing.Limits())
    if value is not growing.DOUBT:
        yamlreading.read(text, careful)
        assert not careful.problems
        assert json.dumps(value) == json.dumps(careful.root)


@pytest.mark.slow
@settings(max_examples=3_000)
@given(INPUTS, st.sampled_from([None, "yaml", "json"]))
def test_any_bytes_for_longer(data: bytes, syntax: Any) -> None:
    held(data, syntax)
