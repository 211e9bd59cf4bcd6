"""Texts become documents: whatever comes, in bounded time, with the place of everything."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import composing, growing, jsonreading, yamlreading
from schemas.problems import Violation

GOOD = b"""\
apiVersion: modplane.dev/v1
kind: Module
metadata: {name: thing-%d}
spec:
  entryPoint: thing:Thing
  routing: {apiVersion: v1, namespace: thing}
"""


def one(text: str | bytes, **options: Any) -> composing.Document:
    documents = composing.compose(text.encode() if isinstance(text, str) else text, **options)
    assert len(documents) == 1
    return documents[0]


def told(text: str | bytes, **options: Any) -> list[tuple[int, int, str]]:
    document = one(text, **options)
    places = [document.locate(problem) for problem in document.problems]
    return [(line, column, problem.message) for (line, column), problem in zip(places, document.problems, strict=True)]


def test_a_stream_is_read_document_by_document() -> None:
    documents = composing.compose(b"# head\n---\na: 1\n---\n# nothing\n---\n\nb: [1, two, null]\n...\n")
    assert [(document.value, document.index) for document in documents] == [({"a": 1}, 0), ({"b": [1, "two", None]}, 1)]
    assert documents[1].mark("/b/1") == (8, 8)


def test_a_broken_document_leaves_the_others_alone() -> None:
    documents = composing.compose(b"a: [1\n---\nb: \xff\n---\nc: \x00\n---\nd: 'x\n---\ne: 5\n")
    assert [bool(document.problems) for document in documents] == [True, True, True, True, False]
    assert documents[4].value == {"e": 5}
    assert [document.locate(document.problems[0]) for document in documents[1:3]] == [(3, 4), (5, 4)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("010", "010"),
        ("0o10", "0o10"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("2030-01-01", "2030-01-01"),
        ("12:30:45", "12:30:45"),
        (".inf", ".inf"),
        ("+1", "+1"),
        ("1.", "1."),
        ("1.10", 1.1),
        ("-7", -7),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("nullable", "nullable"),
        ("=", "="),
    ],
)
def test_a_plain_scalar_is_what_json_would_call_it(text: str, value: Any) -> None:
    found = one(f"a: {text}\n").value["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_always_text() -> None:
    assert one("1: a\ntrue: b\n~: c\n").value == {"1": "a", "true": "b", "~": "c"}


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "'a' is given twice; it is already at line 1, column 1"),
        ("x:\n  - a: 1\n    a: 2\n", 3, 5, "it is already at line 2, column 5"),
        ("a: &x 1\n", 1, 4, "anchor '&x' is not allowed"),
        ("a: *x\n", 1, 4, "alias '*x' is not allowed"),
        ("a: {<<: {b: 1}}\n", 1, 5, "Merge keys"),
        ("a: !!python/object:os.system x\n", 1, 4, "tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: !secret [x]\n", 1, 4, "tag '!secret'"),
        ("? [a]\n: 1\n", 1, 3, "A key must be text"),
        ("? *a\n: 1\n", 1, 3, "alias cannot be a key"),
        ("\ta: 1\n", 1, 1, "indent with spaces, not tabs"),
        ("a: b: c\n", 1, 5, "':' is not allowed here"),
        ("a: [1,\nb: 2\n", 3, 1, "A ',' or ']' is missing. The bracket opened at line 1, column 4."),
        ("{a: 1\nb: 2}\n", 2, 2, "A ',' or '}' is missing."),
        ("a: 1\nb\n", 3, 1, "':' is missing"),
        ("a: [}\n", 1, 5, "A value was expected here"),
        ("a: 'x\n", 2, 1, "closing quote is missing"),
        ('a: "\\q"\n', 1, 5, "escape does not exist"),
        ("a: |x\n", 1, 5, "not YAML"),
        ("- a\nb: 1\n", 2, 1, "not part of the list above"),
        ("a: 1\n b: 2\n", 2, 3, "':' is not allowed here"),
        (f"a: {'9' * 61}\n", 1, 4, "has 61 characters; put it in quotes"),
        ("a: 1e999\n", 1, 4, "too big to hold"),
        ("a: \x1b[31m\n", 1, 4, "U+001B"),
        ("a: \ufeff\n", 1, 4, "U+FEFF"),
        ("- 1\n", 1, 1, "not a list"),
        ("just words\n", 1, 1, "not text"),
        ("42", 1, 1, "not a number"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", 2, 1, "cannot begin a document"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, line: int, column: int, words: str) -> None:
    documents = composing.compose(text.encode())
    problems = documents[0].problems
    assert problems
    assert documents[0].locate(problems[0]) == (line, column), problems[0].message
    assert words in problems[0].message


def test_every_problem_of_a_document_is_told_at_once() -> None:
    assert [place[:2] for place in told("a: &x 1\nb: *x\na: 2\nc: !t 3\n")] == [(1, 4), (2, 4), (3, 1), (4, 4)]


def test_depth_is_bounded_in_every_notation() -> None:
    for text in ("[" * 60_000, "a: " + "[" * 60_000, "- " * 30_000, "? " * 30_000, "{a: " * 15_000, '{"a":' * 10_000):
        for syntax in ("yaml", "json"):
            document = one(text, syntax=syntax)
            assert document.problems
    assert "deeper than 32 levels" in one("[" * 60_000).problems[0].message
    assert one("a: " + "[" * 31 + "]" * 31).problems == []
    assert one("a: " + "[" * 32 + "]" * 32).problems[0].reason == "DocumentTooDeep"
    assert one(b'{"a":' * 33 + b"1" + b"}" * 33, syntax="json").problems[0].reason == "DocumentTooDeep"


def test_size_and_number_of_nodes_are_bounded() -> None:
    assert "100,000 bytes, but 65,536" in one("[" * 100_000).problems[0].message
    assert one("a: [" + "1," * 20_001 + "]").problems[0].reason == "DocumentTooLarge"
    assert one(b'{"a":[' + b"1," * 20_001 + b"1]}", syntax="json").problems[0].reason == "DocumentTooLarge"
    assert one("a: 1", limits=growing.Limits(stream_bytes=3)).problems[0].message.startswith("The text has 4 bytes")
    many = composing.compose(b"a: 1\n---\n" * 5, limits=growing.Limits(documents=3))
    assert [bool(document.problems) for document in many] == [False, False, False, True]


def test_a_list_is_its_items_each_in_its_place() -> None:
    documents = composing.compose(
        b"a: 1\n---\napiVersion: v1\nkind: List\nitems:\n- {b: 2}\n- 3\n- c:\n    d: 4\n---\ne: 5\n"
    )
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}, {}, {"c": {"d": 4}}, {"e": 5}]
    assert [document.index for document in documents] == [0, 1, 2, 3, 4]
    assert [bool(document.problems) for document in documents] == [False, False, True, False, False]
    assert documents[2].locate(documents[2].problems[0]) == (7, 3)
    assert documents[3].mark("/c/d") == (9, 8)
    assert documents[3].locate(Violation(pointer="/c", message="", reason="FieldValueForbidden")) == (8, 3)


@pytest.mark.parametrize("syntax", ["json", "yaml"])
def test_a_list_may_be_longer_than_a_document(syntax: str) -> None:
    whole = {"apiVersion": "v1", "kind": "List", "items": [{"n": index, "text": "x" * 100} for index in range(3000)]}
    documents = composing.compose(json.dumps(whole, indent=1).encode(), syntax=syntax)  # type: ignore[arg-type]  # from parametrize
    assert [document.value["n"] for document in documents] == list(range(3000))
    assert documents[2999].mark("/n") == (6 + 2999 * 4, 9)


def test_a_list_with_a_broken_item_is_broken() -> None:
    document = one("kind: List\nitems:\n- {a: 1, a: 2}\n")
    assert document.locate(document.problems[0]) == (3, 10)
    assert document.mark("/items/0/a") == (3, 10)


def test_an_alias_bomb_is_never_built() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(c)}: &{chr(c)} [{','.join(['*' + chr(c - 1)] * 9)}]\n" for c in range(98, 120)
    )
    problems = one(bomb).problems
    assert len(problems) == growing.MAX_PROBLEMS


@pytest.mark.slow
def test_ten_thousand_documents_with_five_in_a_hundred_bad_fit_in_little_memory() -> None:
    data = b"---\n".join(GOOD % index if index % 20 else b"a: [1\nb: *x\n" for index in range(10_000))
    tracemalloc.start()
    documents = composing.compose(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(documents) == 10_000
    assert sum(bool(document.problems) for document in documents) == 500
    assert peak < 100_000_000
    assert documents[9_999].mark("/metadata/name")[1] == 18


def test_encodings_other_than_utf8_are_told_apart() -> None:
    assert one("\ufeffa: 1\n").value == {"a": 1}
    assert "UTF-16" in one("a: 1".encode("utf-16")).problems[0].message


def test_a_directive_of_the_right_version_is_overread() -> None:
    assert one("%YAML 1.2\n---\na: 1\n").value == {"a": 1}


def test_a_second_document_after_an_odd_line_break_is_no_smuggler() -> None:
    assert "second document" in one(b"a: 1\r--- \rb: 2\r").problems[0].message


def test_a_place_that_does_not_exist_is_that_of_its_surroundings() -> None:
    document = one("a:\n  b: 1\n  c: {d: 2}\n")
    assert document.mark("/a/b") == (2, 6)
    assert document.mark("/a") == (1, 1)
    assert document.mark("/a/c/nope/deeper") == (3, 6)
    assert document.mark("/nope") == (1, 1)
    assert document.locate(Violation(pointer="/a/c", message="", reason="FieldValueForbidden")) == (3, 3)
    assert document.locate(Violation(pointer="/a/c", message="")) == (3, 6)


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('{"a": 1,\n "a": 2}', 2, 2, "given twice; it is already at line 1, column 2"),
        ('{"a": 1,}', 1, 9, "A key in double quotes was expected"),
        ('{"a" 1}', 1, 6, "A ':' was expected"),
        ("{'a': 1}", 1, 2, "JSON needs double quotes"),
        ('{"a": [1, 2', 1, 12, "The text ends"),
        ('{"a": [1 2]}', 1, 10, "',' or the closing bracket"),
        ('{"a": [1}', 1, 9, "not '}'"),
        ('{"a": ]}', 1, 7, "A value was expected here, not ']'"),
        ('{"a": NaN}', 1, 7, "'N'"),
        ('{"a": 01}', 1, 7, "'0'"),
        ('{"a": 1e999}', 1, 7, "too long or too big"),
        ('{"a": ' + "9" * 61 + "}", 1, 7, "too long or too big"),
        ('{"a": 1} x', 1, 10, "more text follows"),
        ('{"a": "\t"}', 1, 7, "where a value was expected"),
        ("", 1, 1, "The text ends"),
        ("[1]", 1, 1, "not a list"),
        ("7", 1, 1, "not a number"),
    ],
)
def test_what_is_wrong_with_json_is_told_with_its_place(text: str, line: int, column: int, words: str) -> None:
    problem = told(text, syntax="json")[0]
    assert problem[:2] == (line, column), problem
    assert words in problem[2]


def test_json_marks_are_exact() -> None:
    document = one('{"a": {"b": [1,\n  {"c": "x"}]}, "e": {}, "f": []}', syntax="json")
    assert document.problems == []
    assert [document.mark(pointer) for pointer in ("/a/b/0", "/a/b/1/c", "/e", "/f")] == [
        (1, 14),
        (2, 9),
        (2, 22),
        (2, 31),
    ]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc/~ é", max_size=4).filter(lambda key: key != "<<"), inner, max_size=4)
    ),
    max_leaves=20,
)


def _pointers(value: Any, pointer: str = "") -> list[str]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [
        found
        for key, item in children
        for found in _pointers(item, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")
    ]
    return [pointer, *below]


@pytest.mark.slow
@given(st.dictionaries(st.text("abc", max_size=3), VALUES, max_size=4), st.booleans())
def test_json_is_read_alike_by_every_reader_and_each_value_has_a_place(value: dict[str, Any], spread: bool) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2 if spread else None)
    document = one(text, syntax="json")
    assert document.problems == []
    assert document.value == value
    growth = growing.Growth(growing.Limits())
    jsonreading.read(text, growth)
    assert growth.root == value
    assert sorted(growth.values) == sorted(_pointers(value))
    as_yaml = growing.Growth(growing.Limits())
    yamlreading.read(text, as_yaml)
    assert as_yaml.problems or as_yaml.root == value
    if not as_yaml.problems:
        assert as_yaml.values == growth.values


@given(st.binary(max_size=200) | st.text("ab:-[]{},&*!|>'\"#%\n \t\r?<~019.", max_size=60).map(str.encode))
def test_no_bytes_make_it_raise_and_what_passes_is_an_object(data: bytes) -> None:
    for syntax in (None, "yaml", "json"):
        for document in composing.compose(data, syntax=syntax):
            assert isinstance(document.value, dict)
            assert all(document.locate(problem) >= (1, 1) for problem in document.problems)
            json.dumps(document.value, allow_nan=False)


@given(st.text("ab:-[]{}, \n'\"01", max_size=40))
def test_the_fast_reader_and_the_careful_one_agree(text: str) -> None:
    careful = growing.Growth(growing.Limits())
    value = yamlreading.read_fast(text, growing.Limits())
    yamlreading.read(text, careful)
    assert (value is not growing.DOUBT) == (not careful.problems)
    if value is not growing.DOUBT:
        assert value == careful.root
