"""A worker as `describe` shows it: what it last reported, and what its own door says now if it answers.

The stored report is written when something changes, not at every beat; lag, memory and the list of modules are
asked of the worker itself.
"""

from collections.abc import Iterator

from controlplane.cli import printing
from controlplane.cli.plainhttp import httpx
from schemas.meta import Json

_PATIENCE = httpx.Timeout(2.0)


def lines(item: Json, live: Json | None) -> Iterator[str]:
    """The whole description, below the head; ``live`` is what the worker itself says (`ask`)."""
    status = item.get("status", {})
    report = {**(status.get("report") or {}), **((live or {}).get("report") or {})}
    now = printing.now()
    since = printing.age(report.get("startedAt"), now)
    said = printing.age(report.get("reportedAt"), now)
    state = "lost" if status.get("lost") else report.get("state", "unknown")
    worker = (live or {}).get("worker") or {}
    yield from printing.pairs(
        [
            ("State", state + (", leaving" if report.get("leaving") else "")),
            ("Address", f"{report.get('address', '')}{'' if live else ' (does not answer)'}"),
            ("Boot", f"{report['boot']}, started {since} ago" if report.get("boot") else ""),
            ("Process", str(worker.get("pid", ""))),
            ("Labels", ", ".join(f"{key}={value}" for key, value in report.get("labels", {}).items())),
            ("Host", report.get("hostVersion", "")),
            ("Applied", _order(report, "applied")),
            ("Observed", _order(report, "observed")),
            ("Modules", str(report.get("modules", 0))),
            ("Loop lag", f"{1000 * report.get('loopLagSeconds', 0.0):.1f} ms" if live else ""),
            ("Memory", f"{report.get('memoryBytes', 0) / (1 << 20):.0f} MiB" if report.get("memoryBytes") else ""),
            ("Reported", f"{said} ago" if live else f"{said} ago (the last change)"),
        ]
    )
    yield from printing.section("Modules", _modules(live))
    yield from printing.section("Pending", _pending(report))
    yield from printing.section("Rejected", _rejected(report))


def ask(item: Json) -> Json | None:
    """What the worker's own door says now; None if it does not answer, or another worker does."""
    report = item.get("status", {}).get("report") or {}
    if not report.get("address"):
        return None
    try:
        answer = httpx.get(f"{report['address']}/modules/system/info", timeout=_PATIENCE, trust_env=False)
        found = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    if not isinstance(found, dict) or (found.get("worker") or {}).get("id") != item["metadata"]["name"]:
        return None
    return found


def _order(report: Json, word: str) -> str:
    if not report.get(f"{word}Revision"):
        return "nothing yet"
    return f"revision {report[f'{word}Revision']}, epoch {report.get(f'{word}Epoch', 0)}"


def _modules(live: Json | None) -> list[list[str]]:
    now = printing.now()
    rows = [["NAME", "GENERATION", "VERSION", "SERVES", "FOR", "IN FLIGHT"]]
    for each in sorted((live or {}).get("modules", []), key=lambda each: str(each["name"])):
        serves = "yes" if each.get("serving", True) else f"no: {each.get('reason', '')}"
        age = printing.age(each.get("since"), now)
        rows.append(
            [each["name"], str(each["generation"]), each.get("version", ""), serves, age, str(each.get("inFlight", 0))]
        )
    return rows


def _pending(report: Json) -> list[list[str]]:
    now = printing.now()
    rows = [["MODULE", "GENERATION", "FOR", "REASON", "MESSAGE"]]
    for each in report.get("pending", []):
        age = printing.age(each.get("since"), now)
        rows.append([each["module"], str(each.get("generation", "")), age, each["reason"], each.get("message", "")])
    return rows


def _rejected(report: Json) -> list[list[str]]:
    now = printing.now()
    rows = [["MODULE", "GENERATION", "REASON", "STILL SERVING FOR", "MESSAGE"]]
    for each in report.get("rejected", []):
        serving = printing.age(each["servingSince"], now) if each.get("servingSince") else "nothing serves"
        rows.append([each["module"], str(each.get("generation", "")), each["reason"], serving, each.get("message", "")])
    return rows
