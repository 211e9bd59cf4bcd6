"""What is hidden is told nowhere, in no spelling."""

import io
import json
import logging
import threading
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.runtime import masking
from schemas.kits import logs
from schemas.kits.options import LogFormat, LogLevel
from tests.doubles import quiet

PEM = "-----BEGIN KEY-----\nMIIBVwIBADANBgkqhkiG9w0BAQ\nabcdefghijklmnopqrstuvwxyz=\n-----END KEY-----\n"


def hidden(*values: str) -> masking.Mask:
    mask = masking.Mask()
    for value in values:
        mask.hide(value, "secret://x")
    return mask


def test_nothing_hidden_nothing_changed() -> None:
    assert masking.Mask().text("any") == "any"


@pytest.mark.parametrize("value", ["hunter22", 'quo"te\\s', "zeile\nzwei", "p@ss w/rd", "schlüssel'", PEM, "1234"])
def test_every_spelling_is_struck_out(value: str) -> None:
    mask = hidden(value)
    for shown in (
        value,
        repr(value),
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        json.dumps({"message": repr({"key": value})}),
        f"https://user:{quote(value, safe='')}@host/",
        traceback.format_exception_only(ValueError(value))[0],
    ):
        masked = mask.text(shown)
        assert "secret://x" in masked
        for line in value.splitlines():
            assert len(line) < 12 or line not in masked


@given(st.text(min_size=4, max_size=20).filter(lambda text: len(text.strip()) >= 4), st.text(max_size=5))
def test_whatever_it_is_it_does_not_come_through(value: str, around: str) -> None:
    mask = masking.Mask()
    mask.hide(value, "•")
    for shown in (value, repr(value), json.dumps(value)):
        assert value not in mask.text(around + shown + around) or value in around + "•" + around


def test_a_longer_secret_wins_over_one_inside_it_and_old_values_stay_hidden() -> None:
    mask = masking.Mask()
    mask.hide("abcd", "secret://short")
    mask.hide("abcdefgh", "secret://long")
    mask.hide("newvalue", "secret://short")
    assert mask.text("abcdefgh abcd newvalue") == "secret://long secret://short secret://short"


def test_a_short_secret_does_not_swallow_ordinary_words() -> None:
    assert hidden("abc").text("abcdef") == "abcdef"


def test_a_single_long_line_is_struck_out_of_what_was_cut() -> None:
    cut = f"ValueError: bad key {PEM}"[:70]
    assert "MIIBVwIBADANBgkqhkiG9w0BAQ" in cut
    assert "MIIBVwIBADANBgkqhkiG9w0BAQ" not in hidden(PEM).text(cut)


class Stream(io.StringIO):
    """Something that is more than a text stream."""

    extra = 7


def test_a_veiled_stream_is_the_stream_but_for_what_it_must_not_say() -> None:
    below = Stream()
    veiled: Any = masking.Veil(below, hidden("hunter22"))
    print("the key is", "hunter22", file=veiled)
    veiled.writelines(["a hunter22\n", "b\n"])
    assert veiled.write("hunter22") == 8
    assert below.getvalue() == "the key is secret://x\na secret://x\nb\nsecret://x"
    assert veiled.extra == 7
    veiled.flush()


def raising() -> None:
    raise RuntimeError("no luck with hunter22")


@pytest.mark.parametrize("style", [LogFormat.CONSOLE, LogFormat.JSON])
def test_logs_hooks_and_prints_go_through_the_veil(style: LogFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    below = io.StringIO()
    monkeypatch.setattr(masking, "mask", hidden("hunter22"))
    monkeypatch.setattr("sys.stderr", below)
    monkeypatch.setattr("sys.stdout", below)
    masking.veil()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        logs.configure(LogLevel.INFO, style)
        try:
            raising()
        except RuntimeError:
            logging.getLogger("author").exception("call with %s failed", {"key": "hunter22"})
        thread = threading.Thread(target=raising)
        monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
        thread.start()
        thread.join()
        print({"config": "hunter22"})
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        quiet.configure()
    assert "hunter22" not in below.getvalue()
    assert below.getvalue().count("secret://x") >= 4
