"""`modplane audit` shows each record in a line that a person reads, page after page; `verify` answers with its code."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from controlplane.cli import audit, client, exits, main
from schemas import names
from schemas.meta import Json
from tests.doubles.keys import TRUSTED
from tests.doubles.trails import Writer, trail


def record(number: int, **more: Any) -> Json:
    said = {"id": number, "at": "2026-01-01T00:00:00.000Z", "kind": "decision", "outcome": "allow", "status": 200}
    return said | {"reason": "Allowed", "subject": "ada", "method": "GET", "path": "/x", "policy": "BASIC"} | more


class Server:
    """Answers as the control plane does, from a list of records."""

    def __init__(self, records: list[Json]) -> None:
        self.records = records
        self.asked: list[dict[str, str]] = []
        self.client = client.Client("https://127.0.0.1:1", "t", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = dict(request.url.params)
        self.asked.append(asked)
        limit, before, after = int(asked["limit"]), int(asked.get("before", 0)), int(asked.get("after", 0))
        found = [each for each in self.records if each["id"] > after and (not before or each["id"] < before)]
        newest = asked.get("newest") != "false"
        page = found[-limit:] if newest else found[:limit]
        following = (page[0] if newest else page[-1])["id"] if len(found) > limit else None
        return httpx.Response(200, json={"records": page, "next": following})


def test_the_last_records_are_gathered_over_pages() -> None:
    server = Server([record(number) for number in range(1, 2_501)])
    found = audit._last(server.client, {"module": "shop"}, 2_200)
    assert [each["id"] for each in found] == list(range(301, 2_501))
    assert [each["limit"] for each in server.asked] == ["1000", "1000", "200"]
    assert audit._last(server.client, {}, 0) == []
    assert audit._newest(server.client) == 2_500


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, "allow 200  Allowed  ada  GET /x  [BASIC]"),
        ({"organisation": "acme", "client": "::1"}, "allow 200  Allowed  ada of acme  GET /x  [BASIC]  from ::1"),
        (
            {"outcome": "deny", "status": 403, "reason": "PermissionMissing", "detail": "read"},
            "deny  403  PermissionMissing (read)  ada  GET /x  [BASIC]",
        ),
        ({"outcome": "deny", "status": 401, "reason": "NoToken", "subject": ""}, "deny  401  NoToken  nobody"),
        (
            {"kind": "change", "verb": "created", "resource": "Module/a", "revision": 7, "policy": ""},
            "allow 200  Allowed  ada  created Module/a at revision 7  GET /x",
        ),
    ],
)  # fmt: skip
def test_a_decision_or_change_is_one_line(more: Json, shown: str) -> None:
    assert audit.line(record(1, **more)).startswith(f"2026-01-01T00:00:00.000Z  {shown}")


def test_a_gap_says_how_many_are_missing() -> None:
    gap = {"id": 1, "at": "T", "kind": "gap", "writer": "w0", "boot": "b", "reason": "Crashed", "count": 3}
    assert audit.line(gap) == "T  gap w0.b  Crashed  3 records are missing"


def test_a_trail_that_nobody_touched_is_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    said = {"ok": True, "records": 9, "chains": [{}], "lost": 2, "second_place": "1 checkpoints on NATS", "faults": []}
    audit._judge(said, None)
    assert "9 records in 1 chains; 2 more could have been there" in capsys.readouterr().out
    audit._judge(said, "json")
    assert json.loads(capsys.readouterr().out) == said


def test_a_trail_that_somebody_touched_is_a_no_with_the_first_bad_record() -> None:
    fault = {"writer": "w0", "boot": "b", "seq": 4, "id": 9, "kind": "Changed", "message": "its text is another"}
    said = {"ok": False, "records": 9, "chains": [], "lost": 0, "second_place": "none", "faults": [fault]}
    with pytest.raises(exits.Exit) as ended:
        audit._judge(said, None)
    assert ended.value.code == exits.NO
    assert ended.value.message == "first bad record of w0.b: id 9, number 4: its text is another"


def stopped(folder: Path) -> Path:
    """The data folder of a system that is stopped, with five records."""
    kept = trail(folder)
    kept.add(Writer().batch(5))
    kept.close()
    (folder / names.TRUSTED_KEYS).write_bytes(TRUSTED.path.read_bytes())
    return folder


def test_the_file_of_a_stopped_system_is_verified_where_it_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(tmp_path)
    before = sorted(folder.iterdir())
    assert main.run(["audit", "verify", "--file", str(folder), "-o", "json"]) == exits.YES
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["records"]) == (True, 5)
    assert sorted(folder.iterdir()) == before
    with closing(sqlite3.connect(folder / "audit.db", isolation_level=None)) as database:
        database.execute("UPDATE records SET body = replace(body, 'decision', 'gap') WHERE seq = 3")
    assert main.run(["audit", "verify", "--file", str(folder / "audit.db")]) == exits.NO
    said = capsys.readouterr()
    assert "5 records in 1 chains; not asked" in said.out
    assert "first bad record of w0.ab12: id 3, number 3: " in said.err


def test_what_is_no_trail_or_has_no_keys_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stopped(tmp_path)
    (folder / "copy.db").write_bytes(b"nonsense" * 1_000)
    assert main.run(["audit", "verify", "--file", str(folder / "copy.db")]) == exits.NO
    assert "copy.db cannot be read" in capsys.readouterr().err
    (folder / names.TRUSTED_KEYS).rename(folder / "kept-elsewhere.json")
    assert main.run(["audit", "verify", "--file", str(folder)]) == exits.USAGE
    assert f"there is no {folder / names.TRUSTED_KEYS}" in capsys.readouterr().err
    keys = ["--keys", str(folder / "kept-elsewhere.json")]
    assert main.run(["audit", "verify", "--file", str(folder), *keys]) == exits.YES
    assert main.run(["audit", "--file", str(folder)]) == exits.USAGE
    capsys.readouterr()
    assert main.run(["audit", "verify", "--data-dir", str(folder)]) == exits.UNREACHABLE
    assert f"modplane audit verify --file {folder}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00Z", "2026-01-01", "10m", "1m30s", "90"])
def test_a_moment_is_a_time_or_so_long_ago(text: str) -> None:
    assert audit.Moment().convert(text, None, None).endswith("+00:00")


@pytest.mark.parametrize("text", ["yesterday", "10x", ""])
def test_another_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="10m for ten minutes ago"):
        audit.Moment().convert(text, None, None)
