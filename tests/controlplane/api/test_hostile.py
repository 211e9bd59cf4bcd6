"""Hostile bodies: the limits of manifests hold for JSON too, and each item of a list is judged alone."""

import json
from typing import Any

import pytest

from tests.doubles.apiparts import MODULES, Parts, module

APPLY = "/apis/modplane.dev/v1/apply"


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


REFUSED: dict[str, tuple[Any, str]] = {
    "depth": (module(config={"a": deep(40)}), "deeper than 32 levels"),
    "nodes": (module(config={"a": [1] * 20_001}), "more than 20,000 keys and values"),
    "size": (module(config={"a": "x" * 70_000}), "but 65,536 are allowed"),
    "NUL": (module(config={"a": "\0"}), "U+0000"),
    "surrogate": (module(config={"a": "\ud800"}), "surrogate"),
    "homoglyph": (module("аnalytics"), "U+0430 CYRILLIC"),
    "upper case": (module("Orders"), "lower case"),
    "over-long": (module("x" * 64), "at most 63"),
    "dots": (module(".."), "must not contain dots"),
    "reserved": (module("admin"), "reserved"),
    "wrong type": (module(suspend="no"), "must be true or false"),
    "unknown field": (module(versoin="1"), "Did you mean 'version'?"),
    "reference": (module(config={"a": "secret://No"}), "lower case"),
    "secret": (module(config={"a": "-----BEGIN PRIVATE KEY-----\nc4nary"}), "holds a private key"),
    "no object": ([], "not a list"),
    "text": ("Module", "not text"),
    "nothing": (None, "not nothing"),
}

UNREADABLE: dict[str, tuple[str, str]] = {
    "depth": ("[" * 100_000 + "]" * 100_000, "nested too deep"),
    "long number": ('{"a": ' + "7" * 5_000 + "}", "more than 60 characters"),
    "big number": ('{"a": 1e999}', "too big"),
    "NaN": ('{"a": NaN}', "NaN is no JSON number"),
    "double": ('{"a": 1, "b": 2, "b": 3}', "'b' stands twice"),
    "octal": ('{"a": 010}', "no proper JSON"),
    "yes": ('{"a": NO}', "no proper JSON"),
    "UTF-16": ("\ufeff{}", "no proper JSON"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_an_item_over_a_limit_is_refused_with_the_reason_and_the_others_are_applied(
    parts: Parts, what: str
) -> None:
    item, words = REFUSED[what]
    body = json.dumps({"items": [module("before"), item, module("after")]})
    answer = await parts.client.post(
        APPLY, params={"fieldManager": "t"}, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    first, bad, last = answer.json()["items"]
    assert [first["result"], bad["result"], last["result"]] == ["created", "refused", "created"]
    assert words in json.dumps(bad["error"]["details"]["causes"], ensure_ascii=False)
    assert "c4nary" not in answer.text


@pytest.mark.parametrize("what", [what for what, (item, _) in REFUSED.items() if isinstance(item, dict)])
async def test_a_single_object_has_the_same_limits(parts: Parts, what: str) -> None:
    item, words = REFUSED[what]
    answer = await parts.client.post(MODULES, content=json.dumps(item), headers={"content-type": "application/json"})
    assert answer.status_code == (413 if what in ("nodes", "size") else 422)
    assert words in json.dumps(answer.json()["details"]["causes"], ensure_ascii=False)


@pytest.mark.parametrize("what", UNREADABLE)
async def test_json_that_could_be_read_in_two_ways_or_not_at_all_is_refused_whole(parts: Parts, what: str) -> None:
    text, words = UNREADABLE[what]
    for path, method in ((APPLY, "POST"), (MODULES, "POST"), (f"{MODULES}/orders", "PUT")):
        answer = await parts.client.request(
            method, path, params={"fieldManager": "t"}, content=text.encode(),
            headers={"content-type": "application/json"},
        )  # fmt: skip
        assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest"), path
        assert words in answer.json()["message"]
