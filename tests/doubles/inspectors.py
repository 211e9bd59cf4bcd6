"""An inspector that answers from a table, and modules to be inspected."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

from schemas.digests import PREFIX
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest, RouteReport
from schemas.meta import Json
from schemas.policies import AuthRequirement


def digest(number: int) -> str:
    """A digest that is easy to tell from others."""
    return PREFIX + f"{number:064x}"


def route(path: str, *methods: str, auth: AuthRequirement | None = None, location: str = "") -> RouteReport:
    """A route as the code registers it; GET by default."""
    return RouteReport(methods=list(methods or ("GET",)), path=path, auth=auth, location=location)


class TableInspector:
    """Answers by digest: routes, or a report to be returned as it is; unknown digests have one route ``/``."""

    def __init__(self, seconds: float = 0.05, seed: int = 0) -> None:
        self.host_version = "host-1"
        self.seconds = seconds
        self.asked: Counter[str] = Counter()
        """How many times each id (key) was asked about."""
        self.answers: dict[str, Sequence[RouteReport] | InspectionReport | Exception] = {}
        self.busy = 0
        self.busiest = 0
        self._rng = Random(seed)

    def refuse(self, source: str, outcome: InspectionOutcome, reason: str, message: str) -> None:
        """Answer with a failure."""
        self.answers[source] = InspectionReport(id="", outcome=outcome, reason=reason, message=message)

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        self.asked[request.id] += 1
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await asyncio.sleep(self.seconds * (0.5 + self._rng.random()))
        finally:
            self.busy -= 1
        answer = self.answers.get(request.digest, [route("/")])
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, InspectionReport):
            return answer.model_copy(update={"id": request.id})
        return InspectionReport(id=request.id, outcome=InspectionOutcome.OK, routes=list(answer))


def module_spec(number: int = 1, **more: object) -> Json:
    """A spec whose code has the digest of ``number``."""
    spec: Json = {"entryPoint": "mod:Module", "source": {"path": "mod", "digest": digest(number)}, "version": "1.0.0"}
    return {**spec, **more}
