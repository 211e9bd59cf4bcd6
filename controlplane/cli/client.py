"""A client of the resource API: requests, answers, watches; failures become exits.

Synchronous, one connection pool per command.  Used by every verb that talks to a server.  A ``Status`` of the
server ends the command with code 3 (1 for "not found"), silence with 4, a deadline with 5.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from controlplane.cli import endpoints, exits, options, trusting
from controlplane.cli.plainhttp import httpx
from schemas import names
from schemas.meta import Json
from schemas.problems import Violation

APPLIED_ITEMS: Final = 1_000
APPLIED_BYTES: Final = 2_000_000
"""What one request of an apply holds at most: well below the server's limits, answered in time on a slow machine."""

_APPLIED_SECONDS: Final = 120.0
"""How long such a request may take: of many parts, each meets the work that those before it have made."""

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json"
_QUIET = 10.0
"""Seconds without a byte after which a watch is opened anew."""
_AWAY = 30.0
"""Seconds for which a watch that once stood waits for its server to come back."""
_PAUSE = 0.2
"""Seconds between two openings of a watch."""

_FIELD_PART: Final = re.compile(r"[^.\[\]]+")


class GoneError(Exception):
    """The watch log does not reach back to the asked revision: list again."""


class Client:
    """The API of one control plane."""

    def __init__(
        self, url: str, token: str = "", *, ca_file: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._ca_file = ca_file
        headers = {"user-agent": "modplane", "accept": "application/json"}
        self._http = httpx.Client(
            base_url=self.url,
            transport=transport,
            verify=trusting.context(url, ca_file),
            timeout=httpx.Timeout(30.0, connect=3.0),
            headers=headers | ({"authorization": f"Bearer {token}"} if token else {}),
            trust_env=False,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def get(self, plural: str, name: str, *, table: bool = False) -> Json:
        """One object, or its Table."""
        return self.request("GET", f"{names.API_PREFIX}/{plural}/{name}", table=table)

    def list_all(
        self, plural: str, *, selector: str | None = None, table: bool = False, fields: str | None = None
    ) -> Json:
        """All objects of a kind, page after page, as one List (or Table)."""
        params: dict[str, str] = {"limit": "500"}
        if selector:
            params["labelSelector"] = selector
        if fields:
            params["fieldSelector"] = fields
        key = "rows" if table else "items"
        first = page = self.request("GET", f"{names.API_PREFIX}/{plural}", params=params, table=table)
        found = list(page.get(key) or [])
        while token := page.get("metadata", {}).get("continue"):
            page = self.request(
                "GET", f"{names.API_PREFIX}/{plural}", params={**params, "continue": token}, table=table
            )
            found.extend(page.get(key) or [])
        return {**first, key: found}

    def apply(self, items: list[Json], *, manager: str, force: bool, dry_run: bool) -> Iterator[Json]:
        """Apply a list; one ``{result, object, error}`` per item, in order.

        One transaction for each `APPLIED_ITEMS` or `APPLIED_BYTES`; the next begins when the one before is answered.
        """
        params = {"fieldManager": manager, "force": str(force).lower()}
        if dry_run:
            params["dryRun"] = "All"
        for part in _parts(items):
            path, patience = f"{names.API_PREFIX}/apply", _APPLIED_SECONDS
            answer = self.request("POST", path, params=params, body={"items": part}, patience=patience)
            yield from answer.get("items", [])

    def delete(self, plural: str, name: str, *, uid: str = "", force: bool = False, dry_run: bool = False) -> Json:
        """Ask for an object's deletion; ``uid``: only if it is still that one; ``force``: also if others need it."""
        params = {"fieldManager": names.MANAGER_CLI} | ({"dryRun": "All"} if dry_run else {})
        params |= {"force": "true"} if force else {}
        body = {"preconditions": {"uid": uid}} if uid else None
        return self.request("DELETE", f"{names.API_PREFIX}/{plural}/{name}", params=params, body=body)

    def discover(self, *, prune: bool = False) -> Json:
        """Have the modules path scanned; ``prune``: with what is gone deleted, however much it is."""
        path = f"{names.MANAGEMENT_PREFIX}/modules/discover"
        return self.request("POST", path, body={"prune": prune}, patience=300.0)

    def manage(self, path: str, params: dict[str, str] | None = None) -> Json:
        """What the management API says at a path below its own."""
        return self.request("GET", f"{names.MANAGEMENT_PREFIX}{path}", params=params)

    def watch(
        self,
        plural: str,
        *,
        after: str,
        deadline: float | None = None,
        selector: str | None = None,
        fields: str | None = None,
        table: bool = False,
    ) -> Iterator[Json]:
        """Watch events after a revision, for ever or until ``deadline`` (monotonic); resumes by itself.

        Bookmarks are not yielded.  Raises `GoneError` when the log was compacted, and `exits.Exit` with code 5 at the
        deadline and 4 when the server stays away.
        """
        reached = 0.0

        def opened() -> None:
            nonlocal reached
            reached = time.monotonic()

        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise exits.timed_out("the time is over")
            params = {"watch": "true", "resourceVersion": after, "allowWatchBookmarks": "true"}
            if selector:
                params["labelSelector"] = selector
            if fields:
                params["fieldSelector"] = fields
            if left is not None:
                params["timeoutSeconds"] = str(int(left) + 1)
            quiet = _QUIET if left is None else min(_QUIET, left)
            try:
                path = f"{names.API_PREFIX}/{plural}"
                for event in self._stream(path, params, quiet=quiet, table=table, opened=opened):
                    opened()
                    after = _revision(event["object"]) or after
                    if event["type"] != "BOOKMARK":
                        yield event
                    if deadline is not None and time.monotonic() > deadline:
                        break
            except exits.Exit as end:
                # A restart of the server is not the end of a watch that once stood.
                if end.code != exits.UNREACHABLE or not reached or time.monotonic() - reached > _AWAY:
                    raise
            time.sleep(_PAUSE)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Any = None,
        table: bool = False,
        patience: float = 30.0,
    ) -> Json:
        """One request and its JSON object; anything else ends the command."""
        with self._reaching():
            answer = self._http.request(
                method,
                path,
                params=params,
                json=body,
                headers={"accept": TABLE} if table else {},
                timeout=httpx.Timeout(patience, connect=3.0),
            )
        if not answer.is_success:
            raise _refusal(answer.status_code, answer.text)
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise exits.unreachable(
                f"{self.url} answers, but not as a modplane control plane does",
                hint="Check --server and MODPLANE_SERVER.",
            )
        return found

    def _stream(
        self, path: str, params: dict[str, str], *, quiet: float, table: bool, opened: Callable[[], None]
    ) -> Iterator[Json]:
        headers = {"accept": TABLE} if table else {}
        patience = httpx.Timeout(30.0, connect=3.0, read=quiet)
        with (
            self._reaching(quiet_is_fine=True),
            self._http.stream("GET", path, params=params, headers=headers, timeout=patience) as answer,
        ):
            if answer.status_code == httpx.codes.GONE:
                raise GoneError
            if not answer.is_success:
                answer.read()
                raise _refusal(answer.status_code, answer.text)
            opened()
            for line in answer.iter_lines():
                if not line:
                    continue
                event = json.loads(line)
                if event["type"] == "ERROR":
                    if event["object"].get("code") == httpx.codes.GONE:
                        raise GoneError
                    raise _refusal(int(event["object"].get("code", 500)), json.dumps(event["object"]))
                yield event

    @contextmanager
    def _reaching(self, *, quiet_is_fine: bool = False) -> Iterator[None]:
        try:
            yield
        except httpx.ReadTimeout as error:
            if quiet_is_fine:
                return
            raise exits.timed_out(f"no answer from {self.url} in time") from error
        except httpx.RemoteProtocolError as error:
            # A stream cut short (a restart of the server) is opened anew; a request cut short is not repeated.
            if quiet_is_fine:
                return
            raise exits.unreachable(f"{self.url} hung up: {error}") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise trusting.explained(error, self.url, self._ca_file) or exits.unreachable(
                f"nothing answers at {self.url} ({error})",
                hint="Start the system with `modplane up`, or name a running one with --server or MODPLANE_SERVER.",
            ) from error


def _parts(items: list[Json]) -> Iterator[list[Json]]:
    """The items in their order, as many together as one request takes."""
    part: list[Json] = []
    size = 0
    for item in items:
        weight = len(json.dumps(item))
        if part and (len(part) >= APPLIED_ITEMS or size + weight > APPLIED_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += weight
    if part:
        yield part


def connect(server: str | None, data_dir: Path) -> Client:
    """The client for ``--server``, or for what runs on ``data_dir``; exit code 4 if nothing is known to run."""
    if server and not server.startswith(("http://", "https://")):
        raise exits.usage(f"--server {server!r} is not a URL; write https://HOST:PORT")
    found = endpoints.read(data_dir)
    if not server and found is None:
        raise exits.unreachable(
            f"no system runs on {data_dir} (there is no {endpoints.path(data_dir)})",
            hint="Start one with `modplane up`, or name a running one with --server, MODPLANE_SERVER or --data-dir.",
        )
    if found is not None and server and server.rstrip("/") != found.control_plane.rstrip("/"):
        found = None  # what it says is for that system, never for another
    url = server or (found.control_plane if found else "")
    given = click.get_current_context().meta
    token = given.get(options.GIVEN) or (endpoints.token(found) if found else "")
    if token and trusting.in_the_clear(url):
        raise exits.usage(
            f"the token is not sent to {url}: it would travel in the clear", hint="Use an https:// address."
        )
    api = Client(url, token, ca_file=given.get(options.CA_FILE) or (found.ca_file if found else ""))
    return _closing(api)


def _closing(api: Client) -> Client:
    """Closed when the command ends."""
    click.get_current_context().call_on_close(api.close)
    return api


def _revision(item: Json) -> str | None:
    rows = item.get("rows") or [{}]
    for metadata in (item.get("metadata"), rows[-1].get("object", {}).get("metadata")):
        if metadata and metadata.get("resourceVersion"):
            return str(metadata["resourceVersion"])
    return None


def message(status: Json) -> str:
    """What a ``Status`` or problem document says, in one line."""
    text = status.get("message") or status.get("detail") or status.get("title") or "no reason given"
    return str(text)


def causes(status: Json) -> list[Violation]:
    """Each cause that a ``Status`` names, its field (``spec.dependencies[0].name``) as a pointer."""
    details = status.get("details") or {}
    return [
        Violation(
            pointer="".join(f"/{part}" for part in _FIELD_PART.findall(str(each.get("field", "")))),
            message=str(each.get("message", "")),
            reason=str(each.get("reason", "")),
        )
        for each in details.get("causes", [])
    ]


def _refusal(code: int, text: str) -> exits.Exit:
    try:
        status = json.loads(text)
        words = message(status) if isinstance(status, dict) else text[:200]
    except ValueError:
        words = text[:200].strip() or f"HTTP {code}"
    if code == httpx.codes.NOT_FOUND:
        return exits.no(words)
    if code in (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT):
        return exits.unreachable(f"the server cannot answer now: {words}")
    return exits.refused(words)
