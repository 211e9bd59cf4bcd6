"""`modplane audit` shows each record in a line that a person reads, page after page; `verify` answers with its code."""

import json
from typing import Any

import click
import httpx
import pytest

from controlplane.cli import audit, client, exits
from schemas.meta import Json


def record(number: int, **more: Any) -> Json:
    said = {"id": number, "at": "2026-01-01T00:00:00.000Z", "kind": "decision", "outcome": "allow", "status": 200}
    return said | {"reason": "Allowed", "subject": "ada", "method": "GET", "path": "/x", "policy": "BASIC"} | more


class Server:
    """Answers as the control plane does, from a list of records."""

    def __init__(self, records: list[Json], verification: Json | None = None) -> None:
        self.records = records
        self.verification = verification
        self.asked: list[dict[str, str]] = []
        self.client = client.Client("https://127.0.0.1:1", "t", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/verification"):
            return httpx.Response(200, json=self.verification)
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
    audit._verify(Server([], said).client, None)
    assert "9 records in 1 chains; 2 more could have been there" in capsys.readouterr().out
    audit._verify(Server([], said).client, "json")
    assert json.loads(capsys.readouterr().out) == said


def test_a_trail_that_somebody_touched_is_a_no_with_the_first_bad_record() -> None:
    fault = {"writer": "w0", "boot": "b", "seq": 4, "id": 9, "kind": "Changed", "message": "its text is another"}
    said = {"ok": False, "records": 9, "chains": [], "lost": 0, "second_place": "none", "faults": [fault]}
    with pytest.raises(exits.Exit) as ended:
        audit._verify(Server([], said).client, None)
    assert ended.value.code == exits.NO
    assert ended.value.message == "first bad record of w0.b: id 9, number 4: its text is another"


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00Z", "2026-01-01", "10m", "1m30s", "90"])
def test_a_moment_is_a_time_or_so_long_ago(text: str) -> None:
    assert audit.Moment().convert(text, None, None).endswith("+00:00")


@pytest.mark.parametrize("text", ["yesterday", "10x", ""])
def test_another_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="10m for ten minutes ago"):
        audit.Moment().convert(text, None, None)
