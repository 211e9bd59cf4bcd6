"""What an author reads: their own files, lines and names, whatever the packed copy is called."""

from pathlib import Path

import pytest

from dataplane.workshop import benches, showing

DIGITS = "ab" * 32


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> showing.Show:
    monkeypatch.chdir(tmp_path)
    made = showing.Show("http://127.0.0.1:8000")
    made.places({f"sha256:{DIGITS}": tmp_path / "modules"}, tmp_path / "code")
    return made


def failing(tmp_path: Path) -> BaseException:
    """An exception whose last line is in the packed copy."""
    source = "def handler():\n    return 1 // 0\n"
    file = tmp_path / "code" / DIGITS / "shop" / "__init__.py"
    file.parent.mkdir(parents=True)
    file.write_text(source)
    names: dict[str, object] = {}
    exec(compile(source, str(file), "exec"), names)
    try:
        names["handler"]()  # type: ignore[operator] # the function that was just compiled
    except ZeroDivisionError as error:
        return error
    raise AssertionError


def test_a_handlers_failure_names_the_authors_line_and_begins_its_traceback_there(
    show: showing.Show, tmp_path: Path
) -> None:
    event = {
        "event": "handler failed",
        "level": "error",
        "module": "shop",
        "route": "/a",
        "exc_info": failing(tmp_path),
    }
    first, *trace = show.line(None, "error", event).splitlines()
    assert (
        first
        == "shop /a: handler failed: modules/shop/__init__.py:2: ZeroDivisionError: integer division or modulo by zero"
    )
    assert '  File "modules/shop/__init__.py", line 2, in handler' in trace
    assert "test_showing" not in "\n".join(trace)


def test_an_error_that_no_line_of_theirs_took_part_in_is_shown_whole(show: showing.Show) -> None:
    said = show.line(None, "error", {"event": "handler failed", "module": "shop", "exc_info": ValueError("odd")})
    assert said.splitlines()[0] == "shop: handler failed: ValueError: odd"


def test_other_records_and_names_are_plain(show: showing.Show, tmp_path: Path) -> None:
    event = {"event": "requests cut off", "level": "warning", "module": "shop", "requests": 2}
    assert show.line(None, "warning", event) == "warning: requests cut off module=shop requests=2"
    assert show.plain(f"modplane_modules.shop__{'ab' * 8}.models") == "shop.models"
    unknown = f"{tmp_path}/code/{'cd' * 32}/x.py"
    assert show.plain(unknown) == unknown


def test_failures_go_to_stderr_with_what_serves_on(show: showing.Show, capsys: pytest.CaptureFixture[str]) -> None:
    show.told(benches.Told("shop", 2, "ImportFailed", "shop.py:1: no"))
    show.told(benches.Told("shop", 0, "ImportFailed", "shop.py:1: no"))
    show.told(benches.Told("shop", gone=True))
    out, err = capsys.readouterr()
    assert out == "shop: gone\n"
    assert err == "shop: ImportFailed: shop.py:1: no; generation 2 goes on serving\nshop: ImportFailed: shop.py:1: no\n"
