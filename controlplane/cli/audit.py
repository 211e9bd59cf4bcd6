"""``modplane audit``: who was let in, who was not, and who changed what; with ``verify``: whether all that is true.

``-o json`` prints whole records, one per line.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from controlplane.cli import client, exits, options, printing
from schemas import names
from schemas.meta import Json

PATH: Final = f"{names.MANAGEMENT_PREFIX}/audit"
_PAGE: Final = 1_000
_PAUSE: Final = 0.5
"""Seconds between two looks of ``-f``."""
_WALK_SECONDS: Final = 600.0
_AGO: Final = re.compile(r"\d[\d.]*(ms|s|m|h)?([\d.]+(ms|s|m|h))*")
_SHOWN: Final = ("allow", "deny", "error")


class Moment(click.ParamType[str]):
    """``2026-11-23T13:00:00Z``, or a duration such as ``10m``: so long ago."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """RFC 3339, in UTC."""
        text = str(value)
        if _AGO.fullmatch(text):
            seconds = options.Duration().convert(text, param, ctx)
            return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is no moment; write it like 2026-11-23T13:00:00Z, or 10m for ten minutes ago", param)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


@click.command(
    "audit",
    short_help="Show who was let in, and who changed what",
    cls=options.Verb,
    examples=(
        "modplane audit --module analytics-core --since 10m",
        "modplane audit --subject ada --outcome deny -o json",
        "modplane audit -f",
        "modplane audit verify",
        "modplane audit verify --file .modplane",
    ),
)
@click.argument("what", required=False, type=click.Choice(["verify"]))
@click.option("--module", metavar="NAME", default="", help="Only calls of this module.")
@click.option("--subject", metavar="NAME", default="", help="Only what this caller did.")
@click.option("--organisation", metavar="NAME", default="", help="Only what callers of this organisation did.")
@click.option("--outcome", type=click.Choice(_SHOWN), default=None, help="Only what was let in, refused, or failed.")
@click.option("--since", type=Moment(), metavar="MOMENT", help="From then on: a time, or 10m (ago).")
@click.option("--until", type=Moment(), metavar="MOMENT", help="Until then.")
@click.option("--tail", type=click.IntRange(min=0), default=100, show_default=True, metavar="N", help="The last N.")
@click.option("-f", "--follow", is_flag=True, help="Go on with each new record.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="Whole records, one per line.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="verify: the audit.db of this data folder, or this copy of one, without any server.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="verify --file: whose signatures are believed; default: the trusted-keys.json beside the file.",
)
@options.server
def command(
    what: str | None,
    module: str,
    subject: str,
    organisation: str,
    outcome: str | None,
    since: str | None,
    until: str | None,
    tail: int,
    follow: bool,
    output: str | None,
    file: Path | None,
    keys: Path | None,
    server: str | None,
    data_dir: Path,
) -> None:
    """Show the audit trail, the oldest record first; needs an administrator's token.

    `modplane audit verify` walks along the whole trail and names the first record that somebody touched (exit code 1).
    """
    if (file or keys) and what != "verify":
        raise exits.usage("--file and --keys are for `modplane audit verify`")
    if what == "verify":
        _judge(_walked(file, keys) if file else _verified(server, data_dir), output)
        return
    api = client.connect(server, data_dir)
    asked = {"module": names.object_name(module), "subject": subject, "organisation": organisation}
    asked |= {"outcome": outcome or "", "since": since or "", "until": until or ""}
    params = {key: value for key, value in asked.items() if value}
    last = _show(_last(api, params, tail), output)
    if follow:
        _follow(api, params, last if tail else _newest(api), output)


def _last(api: client.Client, params: dict[str, str], tail: int) -> list[Json]:
    """The last ``tail`` records that are asked for, the oldest first."""
    found: list[Json] = []
    before = 0
    while len(found) < tail:
        asked = params | {"limit": str(min(tail - len(found), _PAGE)), "before": str(before)}
        page = api.request("GET", PATH, params=asked)
        found = page["records"] + found
        if page["next"] is None:
            break
        before = page["next"]
    return found


def _newest(api: client.Client) -> int:
    return max((int(each["id"]) for each in _last(api, {}, 1)), default=0)


def _follow(api: client.Client, params: dict[str, str], last: int, output: str | None) -> None:
    while True:
        asked = params | {"newest": "false", "after": str(last), "limit": str(_PAGE)}
        page = api.request("GET", PATH, params=asked)
        last = max(last, _show(page["records"], output))
        if page["next"] is None:
            time.sleep(_PAUSE)


def _show(records: Iterable[Json], output: str | None) -> int:
    """Print; returns the id of the last one."""
    last = 0
    for record in records:
        last = int(record["id"])
        printing.show(json.dumps(record) if output == "json" else line(record))
    return last


def line(record: Json) -> str:
    """A record in one line, for people."""
    return "  ".join(part for part in _parts(record) if part)


def _parts(record: Json) -> Iterator[str]:
    yield str(record.get("at", ""))
    if "outcome" not in record:
        yield f"{record.get('kind')} {record.get('writer')}.{record.get('boot')}"
        yield str(record.get("reason", ""))
        yield f"{record['count']} records are missing" if "count" in record else ""
        yield str(record.get("detail", ""))
        return
    yield f"{record['outcome']:<5} {record.get('status', '')}"
    detail = record.get("detail")
    yield f"{record.get('reason', '')} ({detail})" if detail else str(record.get("reason", ""))
    yield _who(record)
    if record.get("kind") == "change":
        revision = f" at revision {record['revision']}" if "revision" in record else ""
        yield f"{record.get('verb', '')} {record.get('resource', '')}".strip() + revision
    yield f"{record.get('method', '')} {record.get('path', '')}"
    yield f"[{record['policy']}]" if record.get("policy") else ""
    yield f"from {record['client']}" if record.get("client") else ""


def _who(record: Json) -> str:
    if not record.get("subject"):
        return "nobody"
    organisation = record.get("organisation")
    return f"{record['subject']} of {organisation}" if organisation else str(record["subject"])


def _verified(server: str | None, data_dir: Path) -> Json:
    """What a walk of the control plane finds."""
    try:
        api = client.connect(server, data_dir)
        return api.request("GET", f"{PATH}/verification", patience=_WALK_SECONDS)
    except exits.Exit as end:
        if end.code == exits.UNREACHABLE:
            stopped = f"The trail of a stopped system: modplane audit verify --file {data_dir}"
            end.hint = f"{end.hint}\n{stopped}".strip()
        raise


def _walked(file: Path, keys: Path | None) -> Json:
    """What a walk along a file finds, in a process of its own: the command itself knows nothing of the trail."""
    trail = file / "audit.db" if file.is_dir() else file
    trusted = keys or trail.with_name(names.TRUSTED_KEYS)
    for each in (trail, trusted):
        if not each.is_file():
            raise exits.usage(f"there is no {each}", hint="Name the trail with --file, the keys with --keys.")
    words = [sys.executable, "-m", "controlplane", "verify", str(trail), str(trusted)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    if done.returncode:
        raise exits.no(done.stderr.strip())
    found: Json = json.loads(done.stdout)
    return found


def _judge(found: Json, output: str | None) -> None:
    """Print what a walk found; it ends the command with "no" if somebody touched the trail."""
    if output == "json":
        printing.show(printing.as_json(found))
    else:
        lost = f"; {found['lost']} more could have been there and are not, see the gap records" if found["lost"] else ""
        printing.show(f"{found['records']} records in {len(found['chains'])} chains{lost}; {found['second_place']}")
    if not found["ok"]:
        raise exits.no("\n".join(_fault(each) for each in found["faults"]))


def _fault(fault: Json) -> str:
    where = f"id {fault['id']}, " if fault["id"] else ""
    return f"first bad record of {fault['writer']}.{fault['boot']}: {where}number {fault['seq']}: {fault['message']}"
