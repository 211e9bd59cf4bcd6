"""Documents of plain lines: read without libyaml, and never to anything else than libyaml would read."""

import json
import time
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.admission import composing, growing, plainreading, yamlreading

EXAMPLES: Final = Path(__file__).parents[3] / "deploy" / "examples"
LIMITS: Final = growing.Limits()


def carefully(text: str) -> growing.Growth:
    growth = growing.Growth(LIMITS)
    yamlreading.read(text, growth)
    return growth


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\n", {"a": 1}),
        ("---\na: 1\n", {"a": 1}),
        ("# head\n\n  a: 1   # note\n  b:    # none\n", {"a": 1, "b": None}),
        ("a: thing:Thing\nb: x #y\n", {"a": "thing:Thing", "b": "x"}),
        ("a: x#y - z, [w] {v} 'u' & t\n", {"a": "x#y - z, [w] {v} 'u' & t"}),
        ("a: 'it''s # one'\nb: \"so: this\"\nc: '1'\nd: ''\n", {"a": "it's # one", "b": "so: this", "c": "1", "d": ""}),
        ("a: true\nb: null\nc: -7\nd: 1.5e3\ne: 010\nf: 0x1F\ng: NO\nh: 1.2.3\n",
         {"a": True, "b": None, "c": -7, "d": 1500.0, "e": "010", "f": "0x1F", "g": "NO", "h": "1.2.3"}),
        ("a:\n  b:\n    c: 1\n  d: 2\ne: 3\n", {"a": {"b": {"c": 1}, "d": 2}, "e": 3}),
        ("a:\n- 1\n- b: 2\n  c: 3\n- - x\n  - y: z\n    w:\n    - v\nd: 4\n",
         {"a": [1, {"b": 2, "c": 3}, ["x", {"y": "z", "w": ["v"]}]], "d": 4}),
        ("a:\n  - b:\n    - 1\n    c: 2\n  -   \n", None),
        ("a: {b: c:d, 'e': [1, \"x, y\", {}], f: []}\n", {"a": {"b": "c:d", "e": [1, "x, y", {}], "f": []}}),
        ("true: 1\n404: 2\na.b/c-d: 3\n$ref: '#/x'\n", {"true": 1, "404": 2, "a.b/c-d": 3, "$ref": "#/x"}),
    ],
)  # fmt: skip
def test_plain_lines_are_read(text: str, value: Any) -> None:
    found = plainreading.read_fast(text, LIMITS)
    if value is None:
        assert found is growing.DOUBT
        return
    careful = carefully(text)
    assert not careful.problems
    assert json.dumps(found) == json.dumps(careful.root) == json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n", "a: {b: 1, b: 2}\n", "a: &x 1\n", "a: *x\n", "a: !t 1\n", "<<: {b: 1}\n", "a: {<<: 1}\n",
        "a: b: c\n", "a: 1\n b: 2\n", "- a\nb: 1\n", "a:\n  - b\n - c\n", "a: b\n  c\n", "- a\n - b\n",
        "a: |\n  b\n", "a: >-\n  b\n", "a: 'b\n  c'\n", 'a: "\\n"\n', "a: [1,\n  2]\n", "? a\n: b\n", "{a: 1}\n",
        "\ta: 1\n", "a:\t1\n", "a: 1\r\n", "a: \u00e9\n", "a: \u2028\n", "a: \x00\n", "%YAML 1.2\n---\na: 1\n",
        "--- a\n", "a: 1e999\n", f"a: {'9' * 61}\n", "word\n", "a: {b: 1\n", "a: {b: 1}}\n", "a: [}\n",
        "a: [1 2: 3]\n", "a: {b}\n",
        "a: {b:1}\n", "a: ['x'y]\n", "a: 'x'y\n", "a: 'x'#y\n", "a: x:\n", "a: [1, ]\n", "a: [,]\n", "a: {, }\n",
    ],
)  # fmt: skip
def test_whatever_is_not_plain_beyond_doubt_is_left_to_others(text: str) -> None:
    assert plainreading.read_fast(text, LIMITS) is growing.DOUBT


def test_every_example_is_plain() -> None:
    manifests = sorted(EXAMPLES.glob("*/module.yaml"))
    assert manifests
    for manifest in manifests:
        for _, chunk in composing._chunks(manifest.read_bytes()):
            assert plainreading.read_fast(chunk.decode(), LIMITS) is not growing.DOUBT, manifest


def test_what_is_read_is_nobody_elses() -> None:
    text = "a: {b: [1]}\n"
    first = plainreading.read_fast(text, LIMITS)
    first["a"]["b"].append(2)
    assert plainreading.read_fast(text, LIMITS) == {"a": {"b": [1]}}


def test_depth_and_nodes_are_bounded() -> None:
    for text in ("- " * 40 + "a\n", "".join(f"{' ' * level}a:\n" for level in range(40)), f"a: {'[' * 9}{']' * 9}\n"):
        assert plainreading.read_fast(text, LIMITS) is growing.DOUBT
    assert plainreading.read_fast("a:\n" + "- x\n" * 20_001, LIMITS) is growing.DOUBT
    assert len(plainreading.read_fast("a:\n" + "- x\n" * 15_000, LIMITS)["a"]) == 15_000


@pytest.mark.parametrize(
    "line",
    [
        " " * 60_000 + "&", "a: " + " " * 60_000 + "&", "a: " + "x " * 30_000 + "\t", "a: [" + "x " * 30_000 + "%]",
        "- " * 30_000 + "&", "a: " + "x:y" * 20_000 + ": ",
        "a: " + "[]" * 30_000, "a: '" + "''" * 30_000, "a: " + "x  #" * 15_000 + "\x7f",
    ],
)  # fmt: skip
def test_no_line_takes_more_than_its_length_deserves(line: str) -> None:
    begun = time.process_time()
    assert plainreading.read_fast(line, LIMITS) is growing.DOUBT
    assert time.process_time() - begun < 20.0, "below 0.1 s; a quadratic reader takes minutes"


WORDS: Final = st.sampled_from(
    ["a", "b:c", "1", "-1", "- ", "-", "~", "null", "x y", "x #y", "x: y", "'q'", '"q"', "'it''s'", "''", "{}", "[]",
    "{a: 1}",
     "[a, b]", "{a: {b: [1, 2]}}", "{a: 1,", "]", "&a", "*a", "!t x", "|", ">", "", "# c", "010", "1.5", "a:", "?",
     "@", "<<",
     "[a b, 'c d']", "{'a': b}", '{"a": b}', "{a: b:c}", "{a:b}", "[a: b]", "{a, b}", "[[1], [2, 3]]", "{a: }",
     "(x)", "x,y", "/p"]
)  # fmt: skip
LINES: Final = st.builds(
    lambda spaces, dashes, key, word, tail: f"{' ' * spaces}{'- ' * dashes}{key}{word}{tail}",
    st.integers(0, 6),
    st.sampled_from([0, 0, 0, 1, 1, 2]),
    st.sampled_from(["", "a: ", "b: ", "c: ", "d:", "e:", "f:", "'g': ", "<<: ", "- : ", "a:  "]),
    WORDS,
    st.sampled_from(["", "", "", " ", " # note", "#"]),
)


@st.composite
def manifests(draw: st.DrawFn) -> str:
    """Mostly well-formed: each line goes deeper only where that may be."""
    lines: list[str] = []
    columns = [0]
    for number in range(draw(st.integers(1, 12))):
        deeper = bool(lines) and lines[-1].endswith(":") and draw(st.booleans())
        if deeper:
            columns.append(columns[-1] + draw(st.integers(0, 3)))
        else:
            columns = columns[: draw(st.integers(1, len(columns)))]
        dash = draw(st.sampled_from(["", "", "- "]))
        value = draw(st.sampled_from([":", f": {draw(WORDS)}"]))
        lines.append(f"{' ' * columns[-1]}{dash}k{number}{value}")
        if dash and draw(st.booleans()):
            columns.append(columns[-1] + 2)
    return "\n".join(lines) + "\n"


TEXTS: Final = (
    manifests()
    | st.lists(LINES, max_size=8).map(lambda lines: "\n".join(lines) + "\n")
    | st.text("ab:-[]{}, \n'\"01#", max_size=40).map("a: {}".format)
)


def same(text: str) -> None:
    """What is read fast is read with care without a problem, to the same value in the same order."""
    found = plainreading.read_fast(text, LIMITS)
    if found is not growing.DOUBT:
        careful = carefully(text)
        assert not careful.problems, text
        assert json.dumps(found) == json.dumps(careful.root), text


@given(TEXTS)
def test_what_is_read_fast_is_what_is_read_with_care(text: str) -> None:
    same(text)


@pytest.mark.slow
@settings(max_examples=2_000)
@given(TEXTS)
def test_what_is_read_fast_is_what_is_read_with_care_for_longer(text: str) -> None:
    same(text)
