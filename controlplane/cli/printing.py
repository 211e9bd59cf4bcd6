"""How objects are shown: kubectl-like tables, JSON, YAML that reads back as it was, names.

Pure but for `show`.  A server's Table is printed as it came: columns and cells are the server's business.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from schemas import kinds
from schemas.meta import Json

FORMATS: Final = ("wide", "json", "yaml", "name")

_NUMBER: Final = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|0o[0-7]+|0x[0-9a-fA-F]+")
"""What YAML 1.2 reads as a number; PyYAML quotes by the rules of 1.1."""


def show(text: str) -> None:
    """Print at once, so that a pipe sees a watch's line when it happens."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_all(texts: Iterable[str]) -> None:
    """Print many lines, of which none has to be seen before the last one is known."""
    sys.stdout.writelines(f"{text}\n" for text in texts)
    sys.stdout.flush()


def aligned(rows: Iterable[Sequence[str]], *, gap: int = 3) -> list[str]:
    """Rows as lines whose columns line up; no blanks at line ends."""
    listed = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*listed, strict=True)]
    return [
        "".join(cell.ljust(width + gap) for cell, width in zip(row, widths, strict=True)).rstrip() for row in listed
    ]


def table_head(table: Json, *, wide: bool) -> list[str]:
    """The headings of a server's Table."""
    return [column["name"].upper().replace(" ", "-") for _, column in _columns(table, wide=wide)]


def table_rows(table: Json, head: Json, *, wide: bool) -> list[list[str]]:
    """The cells of a server's Table, read by the columns of ``head`` (a watch names them only once)."""
    places = [place for place, _ in _columns(head, wide=wide)]
    return [[_cell(row["cells"][place]) for place in places] for row in table.get("rows") or []]


def name_of(item: Json) -> str:
    """``module/analytics-core``."""
    kind = kinds.BY_NAME.get(str(item.get("kind")))
    return f"{kind.singular if kind else item.get('kind', '?')}/{item.get('metadata', {}).get('name', '?')}"


def presentable(item: Json) -> Json:
    """An object without the bookkeeping that people do not edit."""
    metadata = {key: value for key, value in item.get("metadata", {}).items() if key != "managedFields"}
    return {**item, "metadata": metadata}


def as_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def as_yaml(value: Json) -> str:
    """YAML in the order of the fields, with the modeline that gives editors the schema."""
    import yaml  # late: tables do not need it

    class Dumper(yaml.SafeDumper):
        """Quotes what a YAML 1.2 reader would take for a number."""

    def text(dumper: Any, value: str) -> Any:
        style = "'" if _NUMBER.fullmatch(value) else "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]  # the same value twice is two values
    body = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110)
    return f"{modeline(str(value.get('kind', '')))}{body}".strip()


def modeline(kind: str) -> str:
    """The first line for yaml-language-server: where the published schema of a kind is on this machine."""
    from schemas import publishing  # late: only YAML needs it

    known = kinds.BY_NAME.get(kind)
    return publishing.modeline(known, publishing.FOLDER.as_uri()) + "\n" if known else ""


def pairs(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """``Word:   value`` lines; what is empty is left away."""
    for word, value in rows:
        if value:
            yield f"{word + ':':<14}{value}"


def section(title: str, rows: list[list[str]]) -> Iterator[str]:
    """A titled table, the first row its headings; one that has no other says so."""
    yield ""
    if len(rows) == 1:
        yield f"{title}: none"
        return
    yield f"{title}:"
    for line in aligned(rows):
        yield f"  {line}"


def age(moment: str | None, now: datetime) -> str:
    """How long ago an RFC 3339 moment was, as kubectl says it."""
    if not moment:
        return "<unknown>"
    seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    for unit, size, fine in (("d", 86_400, 3), ("h", 3_600, 8), ("m", 60, 10)):
        if seconds >= size * (2 if unit == "m" else 1):
            whole, rest = divmod(seconds, size)
            smaller, part = {"d": ("h", 3_600), "h": ("m", 60), "m": ("s", 1)}[unit]
            return f"{whole}{unit}" + (f"{rest // part}{smaller}" if whole < fine and rest // part else "")
    return f"{seconds}s"


def now() -> datetime:
    """The wall clock, for ages."""
    return datetime.now(UTC)


def _columns(table: Json, *, wide: bool) -> list[tuple[int, Json]]:
    listed = enumerate(table.get("columnDefinitions") or [])
    return [(place, column) for place, column in listed if wide or not column.get("priority")]


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "<none>"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
