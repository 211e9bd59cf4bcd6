"""Two versions at once: v1 and v2 of a namespace, two digests of one module during a swap, good and bad generations."""

import contextlib
import shutil
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.doubles.platform import Platform, manifest, module_source, wait_for
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes

HEAD = "from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth\n"


def write(platform: Platform, name: str, files: dict[str, str]) -> None:
    """A package among the modules, in place of what was there."""
    shutil.rmtree(platform.modules / name, ignore_errors=True)
    for file, text in files.items():
        place = platform.modules / name / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text))


def conditions(platform: Platform, name: str) -> dict[str, dict[str, Any]]:
    stored = platform.object("modules", name)
    assert stored is not None
    return {condition["type"]: condition for condition in stored["status"]["conditions"]}


def test_two_versions_of_a_namespace_answer_each_in_its_shape(platform: Platform) -> None:
    for name in ("analytics-core", "analytics-core-v2"):
        platform.wait_state(name, "ACTIVE")
    first = platform.call("v1/analytics-core/summary").json()
    second = platform.call("v2/analytics-core/summary").json()
    assert first.items() < second.items()
    assert "retention" in second
    assert platform.call("v2/analytics-core/dashboard/overview").status_code == 401
    assert platform.call("v3/analytics-core/summary").status_code == 404
    described = platform.call("v2/analytics-core/openapi.json", follow_redirects=True).json()
    assert "/api/v1/modules/v2/analytics-core/summary" in described["paths"]
    assert not any("/v1/analytics-core" in path for path in described["paths"])
    assert (
        platform.call("v1/analytics-core/docs", follow_redirects=True).headers["content-type"].startswith("text/html")
    )


SWAPPED = {
    "__init__.py": """
        import swapped.words
        from swapped import words as same
        from .module import Swapped

        assert swapped.words is same
    """,
    "words.py": "SAY = '{say}'\n",
    "late.py": "from .words import SAY\n",
    "data/text.txt": "{say} data",
    "module.py": HEAD
    + """
import asyncio
from importlib import resources
from pathlib import Path

from swapped.words import SAY


class Swapped(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="swapped", version="1.0.0")

    def register_routes(self, router):
        @router.get("/say")
        @require_module_auth("NONE")
        async def say():
            return SAY

        @router.get("/slow")
        @require_module_auth("NONE")
        async def slow(gate: str):
            Path(gate).with_suffix(".inside").touch()
            while not Path(gate).exists():
                await asyncio.sleep(0.01)
            import swapped.late
            from . import words

            data = resources.files(__package__).joinpath("data/text.txt").read_text()
            return [SAY, swapped.late.SAY, words.SAY, data]
""",
}


def swapped(say: str) -> dict[str, str]:
    return {name: text.replace("{say}", say) for name, text in SWAPPED.items()}


@contextlib.contextmanager
def inside(platform: Platform, path: str, gate: Path) -> Iterator[list[httpx.Response]]:
    """A call that is inside a handler meanwhile; its answer is there afterwards."""
    answers: list[httpx.Response] = []

    def call() -> None:
        answers.append(platform.call(path, params={"gate": str(gate)}, timeout=30))

    caller = threading.Thread(target=call)
    caller.start()
    try:
        wait_for(gate.with_suffix(".inside").exists)
        yield answers
    finally:
        gate.touch()
        caller.join(30)


def test_a_request_that_is_inside_finishes_on_the_code_on_which_it_began(platform: Platform, tmp_path: Path) -> None:
    entry = {"entryPoint": "swapped.module:Swapped"}
    write(platform, "swapped", swapped("old"))
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("swapped", **entry))
    gate = tmp_path / "gate"
    with inside(platform, "v1/swapped/slow", gate) as answers:
        write(platform, "swapped", swapped("new"))
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest("swapped", **entry | {"version": "2.0.0"}))
        assert platform.call("v1/swapped/say").json() == "new"
    assert answers[0].json() == ["old", "old", "old", "old data"]
    again = platform.call("v1/swapped/slow", params={"gate": str(gate)}).json()
    assert again == ["new", "new", "new", "new data"]
    platform.cli("delete", "module/swapped")


STARTED = (
    HEAD
    + """
import asyncio
from pathlib import Path


class Started(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="started", version="1.0.0")
    starts = 0

    async def on_startup(self):
        type(self).starts += 1

    def register_routes(self, router):
        @router.get("/starts")
        @require_module_auth("NONE")
        async def starts():
            return self.starts

        @router.get("/slow")
        @require_module_auth("NONE")
        async def slow(gate: str):
            Path(gate).with_suffix(".inside").touch()
            while not Path(gate).exists():
                await asyncio.sleep(0.01)
            return "done"
"""
)


def test_other_limits_hold_at_once_around_the_code_that_runs_and_whoever_is_inside(
    platform: Platform, tmp_path: Path
) -> None:
    write(platform, "started", {"__init__.py": STARTED})
    entry = {"entryPoint": "started:Started"}
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("started", **entry))
    gate = tmp_path / "gate"
    with inside(platform, "v1/started/slow", gate) as answers:
        assert platform.call("v1/started/starts").json() == 1
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest("started", **entry, limits={"maxConcurrency": 1}))
        assert platform.call("v1/started/starts").status_code == 503, "the one who is inside is counted"
    assert answers[0].json() == "done"
    assert platform.call("v1/started/starts").json() == 1
    platform.cli("delete", "module/started")


ORDERS = (
    HEAD
    + """
from typing import Any
from sqlmodel import Field, Session, SQLModel, create_engine, select
from sqlalchemy.pool import StaticPool


class Order(SQLModel, table=True):
    __tablename__ = "orders"
    id: int | None = Field(default=None, primary_key=True)
    name: str
    {column}


class Answer(SQLModel):
    orders: list[Order]


class Orders(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="{id}", version="1.0.0")

    async def on_startup(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        SQLModel.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            session.add(Order(name="{id}"))
            session.commit()

    def register_routes(self, router):
        @router.get("/orders")
        @require_module_auth("NONE")
        def orders() -> Answer:
            with Session(self.engine) as session:
                return Answer(orders=session.exec(select(Order)).all())
"""
)


@pytest.mark.slow
def test_versions_with_the_same_table_and_model_names_do_not_meet(platform: Platform) -> None:
    for number, column in ((1, "pieces: int = 1"), (2, "weight: float = 2.5")):
        name = f"orders_{number}"
        source = ORDERS.replace("{id}", name).replace("{column}", column)
        (platform.modules / f"{name}.py").write_text(source)
        routing = {"apiVersion": f"v{number}", "namespace": "orders"}
        spec = {"entryPoint": f"{name}:Orders", "routing": routing}
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest(name, **spec))
    assert platform.call("v1/orders/orders").json() == {"orders": [{"id": 1, "name": "orders_1", "pieces": 1}]}
    assert platform.call("v2/orders/orders").json() == {"orders": [{"id": 1, "name": "orders_2", "weight": 2.5}]}

    # the same names once more, in another digest of the same module
    source = ORDERS.replace("{id}", "orders_1").replace("{column}", "colour: str = 'red'")
    (platform.modules / "orders_1.py").write_text(source)
    spec = {"entryPoint": "orders_1:Orders", "routing": {"namespace": "orders"}, "version": "1.1.0"}
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("orders_1", **spec))
    assert platform.call("v1/orders/orders").json()["orders"][0]["colour"] == "red"
    # and another configuration of the same digest
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("orders_1", **spec, config={"a": 1}))
    assert platform.call("v1/orders/orders").json()["orders"][0]["colour"] == "red"

    schemas = platform.http.get(f"{platform.door}/openapi.json").json()["components"]["schemas"]
    assert set(schemas["orders-1.Order"]["properties"]) == {"id", "name", "colour"}
    assert set(schemas["orders-2.Order"]["properties"]) == {"id", "name", "weight"}
    platform.cli("delete", "module/orders-1")
    assert platform.call("v1/orders/orders").status_code == 404
    assert platform.call("v2/orders/orders").status_code == 200
    platform.cli("delete", "module/orders-2")


@pytest.mark.slow
def test_the_good_generation_serves_while_bad_ones_come_and_the_status_says_why(platform: Platform) -> None:
    source = platform.modules / "mended.py"
    good = module_source("mended", say="good")
    source.write_text(good)
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("mended"))

    with flowing(f"{platform.door}/api/v1/modules/v1/mended/hello") as traffic:
        source.write_text(good + "\nimport no_such_package\n")
        platform.cli("apply", "-f", "-", stdin=manifest("mended", version="1.1.0"))
        platform.wait_state("mended", "ERROR")
        stalled = conditions(platform, "mended")["Stalled"]
        assert stalled["status"] == "True"
        assert "no_such_package" in stalled["message"]
        stored = platform.object("modules", "mended")
        assert stored is not None
        assert stored["status"]["serving"]["generation"] == 1
        assert stored["status"]["observedGeneration"] == stored["metadata"]["generation"] == 2
        assert platform.call("v1/mended/hello").json()["say"] == "good"

        # inspection does not start modules: this one fails on the worker
        starting = "\n    async def on_startup(self) -> None:\n        raise ConnectionError('no database here')\n"
        source.write_text(good.replace('say": "good"', 'say": "bad"') + starting)
        platform.cli("apply", "-f", "-", stdin=manifest("mended", version="1.2.0"))
        wait_for(
            lambda: "no database here" in conditions(platform, "mended").get("Programmed", {}).get("message", ""),
            what=lambda: str(conditions(platform, "mended")),
        )
        programmed = conditions(platform, "mended")["Programmed"]
        assert programmed["status"] != "True"
        assert platform.call("v1/mended/hello").json()["say"] == "good"

        # other routes on a worker than at the inspection: refused for good, by the worker
        before = '        @router.get("/guarded")'
        differs = "        import sys\n        if 'uvicorn' in sys.modules:\n"
        differs += "            router.add_api_route('/more', lambda: 1)\n"
        source.write_text(good.replace(before, differs + before))
        platform.cli("apply", "-f", "-", stdin=manifest("mended", version="1.3.0"))
        platform.wait_state("mended", "ERROR")
        stalled = conditions(platform, "mended")["Stalled"]
        assert "/more" in stalled["message"]
        assert platform.call("v1/mended/hello").json()["say"] == "good"

        source.write_text(module_source("mended", say="good", version="1.4.0"))
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest("mended", version="1.4.0"))
        platform.wait_state("mended", "ACTIVE")
        assert conditions(platform, "mended").get("Stalled", {"status": "False"})["status"] == "False"
    assert traffic.calls > 20
    assert traffic.only(200), (traffic.answers, traffic.failures)
    platform.cli("delete", "module/mended")
