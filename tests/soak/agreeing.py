"""Whether everybody agrees: people, files, API, database, bucket, head, every worker, and the event log.

`differences` looks once and lists what does not fit; an empty list means that the platform has converged.
"""

import asyncio
import contextlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import pydantic
from nats.errors import Error as NatsError

from schemas import documents, names
from tests.doubles import events
from tests.doubles.platform import Platform
from tests.soak import faults, histories, people, sources

Module = Mapping[str, Any]


class Look:
    """One look at everything."""

    def __init__(self, platform: Platform, crowd: people.People, ledger: sources.Ledger) -> None:
        self.platform = platform
        self.crowd = crowd
        self.ledger = ledger
        self.events: list[dict[str, Any]] = []
        """The lifecycle events of modules in the stream, repeats removed, in order of arrival."""
        self.modules: list[Module] = []

    def differences(self) -> list[str]:
        """What does not fit; empty: all agree."""
        try:
            answer = self.platform.admin.get(f"{self.platform.control}/apis/modplane.dev/v1/modules")
            if answer.status_code != 200:
                return [f"the API answers {answer.status_code}"]
            self.modules = answer.json()["items"]
            rows, recorded = self._database()
            found = [*self._people(), *self._files()]
            if not found:
                found = [*self._workers(rows), *asyncio.run(asyncio.wait_for(self._nats(rows, recorded), 30))]
            return found
        except (httpx.HTTPError, OSError, sqlite3.Error, NatsError, TimeoutError) as error:
            return [f"cannot be looked at: {type(error).__name__}: {error}"]

    def _people(self) -> Iterator[str]:
        """What was acknowledged stands, and what was to go is gone."""
        by_name = {module["metadata"]["name"]: module for module in self.modules}
        for name, (uid, generation, stamp) in self.crowd.acknowledged.items():
            found = by_name.get(name)
            if found is None:
                yield f"{name} was applied as generation {generation} and is not there"
            elif found["metadata"]["uid"] != uid or found["metadata"]["generation"] < generation:
                yield f"{name} was applied as {uid} generation {generation}, and is {found['metadata']['generation']}"
            elif found["spec"]["config"].get("stamp") != stamp:
                yield f"{name} was applied with stamp {stamp}, and has {found['spec']['config']}"
        for name in sorted(self.crowd.leaving & by_name.keys()):
            yield f"{name} is still there, {_shown(by_name[name])}"

    def _files(self) -> Iterator[str]:
        """Every source is a module that runs it, or says why not."""
        by_name = {module["metadata"]["name"]: module for module in self.modules}
        for name, token in sorted(self.ledger.shipped.items()):
            sort = self.ledger.kind(name)
            found = by_name.get(name)
            if found is None:
                if sort == sources.GOOD:
                    yield f"{name} lies in the modules path and is no module"
                continue
            shown = _shown(found)
            if self.ledger.token_of(found["spec"]["source"].get("digest")) != token:
                yield f"{name} is not of the code that lies there: {shown}"
            elif name in self.crowd.contests:
                yield from self._refused(name, found)
            elif sort == sources.GOOD and (not _observed(found) or found["status"]["state"] != "ACTIVE"):
                yield f"{name} is good and not ACTIVE: {shown}"
            elif sort != sources.GOOD and found["status"].get("state") == "ACTIVE" and _observed(found):
                yield f"{name} is bad ({sort}) and ACTIVE"
            elif sort in _STALLING and found["status"].get("state") != "ERROR":
                yield f"{name} is bad ({sort}) and not in ERROR: {shown}"

    def _refused(self, name: str, found: Module) -> Iterator[str]:
        """A module that asks for another's routes is told whose they are; it may have bad code as well."""
        owner = self.crowd.contests[name]
        told = [each for each in found["status"].get("conditions", []) if each["type"] == "RoutesAccepted"]
        if self.ledger.kind(name) != sources.GOOD or name not in self.crowd.acknowledged:
            return
        if not _observed(found) or not told or told[0]["status"] != "False" or owner not in told[0]["message"]:
            yield f"{name} asks for the routes of {owner} and is not refused: {_shown(found)}"

    def _database(self) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]]]:
        """The desired rows by key, and the recorded transitions by uid, as the database has them."""
        with contextlib.closing(self.platform.database()) as database:
            database.row_factory = sqlite3.Row
            rows = {row["key"]: dict(row) for row in database.execute("SELECT * FROM desired")}
            kept = database.execute("SELECT spec FROM objects WHERE kind = 'ModuleEvent' ORDER BY revision")
            recorded: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for (spec,) in kept:
                event = json.loads(spec)
                recorded[event["uid"]].append(event)
        for listed in recorded.values():
            listed.sort(key=lambda event: int(event["sequence"]))
        return rows, recorded

    def _workers(self, rows: Mapping[str, dict[str, Any]]) -> Iterator[str]:
        """Every worker serves the desired rows, and answers by them itself."""
        wanted = {row["name"]: row for row in rows.values() if row["kind"] == "Module" and not row["deleted"]}
        addresses = self.platform.refresh()
        if len(addresses) != len(faults.WORKERS):
            yield f"{len(addresses)} workers"
        for address in addresses:
            info = httpx.get(f"{address}/modules/system/info", timeout=10).json()
            who, report = info["worker"]["id"], info["report"] or {}
            troubled = {each["module"] for key in ("pending", "rejected") for each in report.get(key, [])}
            if report.get("state") not in ("synced", "degraded", "empty") or info["draining"]:
                yield f"{who} is {report.get('state')}, {info['draining']} generations drain: {report.get('message')}"
            served = {module["name"]: module for module in info["modules"]}
            if served.keys() != wanted.keys():
                yield f"{who} has {sorted(served)}, wanted are {sorted(wanted)}"
            for name, row in wanted.items():
                module = served.get(name, {})
                generation = module.get("generation")
                if name not in troubled and (generation != row["generation"] or not module["serving"]):
                    yield f"{who} serves generation {generation} of {name}, desired is {row['generation']}"
                elif name in troubled and self._is_good(row):
                    yield f"{who} has trouble with {name}, which is good: {report}"

    def _is_good(self, row: Mapping[str, Any]) -> bool:
        return self.ledger.sort_of(json.loads(row["payload"])["digest"]) == sources.GOOD

    async def _nats(
        self, rows: Mapping[str, dict[str, Any]], recorded: Mapping[str, Sequence[dict[str, Any]]]
    ) -> list[str]:
        async with self.platform.nats("controlplane") as client:
            store = await client.jetstream().key_value(names.BUCKET_DESIRED)
            held = {key: (await store.get(key)).value or b"" for key in await store.keys()}
            found = await events.stored_events(client, f"{names.SUBJECT_EVENTS}.module.>")
        self.events = list({event["id"]: event for event in found}.values())
        return [*_bucket(rows, held), *self._log(recorded)]

    def _log(self, recorded: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[str]:
        """The stream has what the database recorded; each object went a legal way, and is where the last says."""
        told: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.events:
            told[event["data"]["uid"]].append(event["data"])
        for uid, said in told.items():
            said.sort(key=lambda data: int(data["sequence"]))
            if wrong := histories.illegal(said):
                yield f"events of {said[0]['module']} ({uid}): {wrong}"
        for uid, kept in recorded.items():
            if [event["sequence"] for event in kept] != [data["sequence"] for data in told.get(uid, [])]:
                yield f"{kept[0]['module']} ({uid}) has {len(kept)} recorded and {len(told.get(uid, []))} told events"
        for module in self.modules:
            last = told.get(module["metadata"]["uid"], [{"to": None}])[-1]["to"]
            if last != module["status"].get("state"):
                yield f"the last event of {module['metadata']['name']} is {last}: {_shown(module)}"


_STALLING = frozenset(sort.name for sort in sources.SORTS if sort.stalls)


def _bucket(rows: Mapping[str, dict[str, Any]], held: Mapping[str, bytes]) -> Iterator[str]:
    """The bucket has the desired rows and a head that proves them."""
    if held.keys() - {names.KEY_HEAD} != rows.keys():
        yield f"the bucket has {sorted(held)}, the database {sorted(rows)}"
        return
    try:
        told = {key: documents.DesiredDocument.model_validate_json(held[key]) for key in rows}
        head = documents.Head.model_validate_json(held.get(names.KEY_HEAD, b""))
    except pydantic.ValidationError as garbage:
        yield f"the bucket has what nobody can read: {garbage}"
        return
    for key, row in rows.items():
        document = told[key]
        if document.order != (row["epoch"], row["revision"]) or document.payload != row["payload"]:
            yield f"{key} in the bucket is {document.order}, in the database {(row['epoch'], row['revision'])}"
    living = [(key, row["revision"], row["digest"]) for key, row in rows.items() if not row["deleted"]]
    if (head.count, head.hash) != (len(living), documents.set_hash(living)):
        yield f"the head proves {head.count} documents, the database desires {len(living)}"


def _observed(module: Module) -> bool:
    return bool(module["status"].get("observedGeneration") == module["metadata"]["generation"])


def _shown(module: Module) -> str:
    status = module["status"]
    told = [
        f"{each['type']}={each['status']}:{each['reason']}: {each['message'][:160]}"
        for each in status.get("conditions", [])
        if each["type"] in ("Valid", "RoutesAccepted", "Programmed", "Stalled", "Deleting", "SourceCurrent")
    ]
    return f"generation {module['metadata']['generation']} {status.get('state')} {told}"
