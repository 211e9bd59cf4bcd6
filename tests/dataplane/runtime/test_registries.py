"""Libraries with one registry per process: two versions of a module that define the same names side by side."""

import gc
import importlib
import sys
import weakref
from pathlib import Path
from types import ModuleType

import pytest
import sqlmodel
from sqlmodel import Session, create_engine, select

from dataplane.runtime import registries
from dataplane.runtime.importing import Code, library
from schemas import digests
from tests.doubles import sources

TABLES = """
import sqlmodel
from sqlmodel import Field, Relationship, SQLModel, Session

class Team(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    heroes: list["Hero"] = Relationship(back_populates="team")

class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    team_id: int | None = Field(default=None, foreign_key="team.id")
    team: Team | None = Relationship(back_populates="heroes")
"""

METRICS = """
import prometheus_client
from prometheus_client import Counter, Histogram, REGISTRY, generate_latest
from prometheus_client.metrics import Gauge

CALLS = Counter("calls", "Calls.", ["who"])
SIZE = Gauge("size", "Size.")
def text(): return generate_latest().decode()
def another(): return Histogram("another", "Made for each instance.")
"""

LIBRARY = '''
"""A stand-in with the shape of prometheus_client."""


class Metric:
    def __init__(self, name):
        self.name = name


class CollectorRegistry:
    def __init__(self):
        self.collectors = {}

    def register(self, collector):
        for metric in collector.describe():
            if metric.name in self.collectors:
                raise ValueError("Duplicated timeseries in CollectorRegistry")
            self.collectors[metric.name] = collector

    def unregister(self, collector):
        for metric in collector.describe():
            del self.collectors[metric.name]


REGISTRY = CollectorRegistry()


class Counter:
    def __init__(self, name, documentation, labelnames=(), registry=REGISTRY):
        self.name = name
        registry.register(self)

    def describe(self):
        return [Metric(self.name)]


class Gauge(Counter): ...
class Summary(Counter): ...
class Histogram(Counter): ...
class Info(Counter): ...
class Enum(Counter): ...


def generate_latest(registry=REGISTRY):
    return " ".join(sorted(registry.collectors)).encode()


def plain():
    return "as it is"
'''


def code(root: Path, text: str) -> Code:
    digest = sources.store(root, {"part.py": text})
    return Code("part", digest, root / digests.folder_name(digest))


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library of metrics that modules can import."""
    package = tmp_path / "lib" / "prometheus_client"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(LIBRARY)
    (package / "metrics.py").write_text("from prometheus_client import Counter, Gauge\n")
    for name in ("prometheus_client", "prometheus_client.metrics"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    return importlib.import_module("prometheus_client")


def test_two_versions_define_the_same_tables_and_each_has_its_own(tmp_path: Path) -> None:
    first = code(tmp_path, TABLES)
    second = code(tmp_path, TABLES.replace("name: str\n    team_id", "name: str\n    age: int = 7\n    team_id"))
    library.acquire(first)
    library.acquire(second)
    try:
        one, two = first.load("part"), second.load("part")
        assert one.SQLModel is not two.SQLModel
        assert set(one.SQLModel.metadata.tables) == set(two.SQLModel.metadata.tables) == {"team", "hero"}
        assert "hero" not in sqlmodel.SQLModel.metadata.tables
        assert issubclass(one.Hero, sqlmodel.SQLModel)
        assert one.sqlmodel.SQLModel is one.SQLModel
        assert one.sqlmodel.select is sqlmodel.select
        for version, columns in ((one, 3), (two, 4)):
            engine = create_engine("sqlite://")
            version.SQLModel.metadata.create_all(engine)
            with Session(engine) as session:
                session.add(version.Hero(name="Ada", team=version.Team(name="Red")))
                session.commit()
                found = session.exec(select(version.Hero)).one()
                assert found.team.heroes == [found]
                assert len(found.model_dump()) == columns
            engine.dispose()
    finally:
        library.release(first)
        library.release(second)


def test_tables_go_with_the_code(tmp_path: Path) -> None:
    version = code(tmp_path, TABLES)
    library.acquire(version)
    hero = weakref.ref(version.load("part").Hero)
    assert hero() is not None
    library.release(version)
    gc.collect()
    assert hero() is None


@pytest.mark.usefixtures("metrics")
def test_two_versions_define_the_same_metrics_and_each_has_its_own(tmp_path: Path) -> None:
    first, second = code(tmp_path, METRICS), code(tmp_path, METRICS + "\nMORE = Counter('more', 'More.')\n")
    library.acquire(first)
    library.acquire(second)
    try:
        one, two = first.load("part"), second.load("part")
        assert (one.text(), two.text()) == ("calls size", "calls more size")
        assert one.REGISTRY is one.prometheus_client.REGISTRY is not two.REGISTRY
        assert one.prometheus_client.plain() == "as it is"
        assert one.prometheus_client.metrics.Gauge is one.Gauge
        assert one.prometheus_client.generate_latest(two.REGISTRY) == b"calls more size"
    finally:
        library.release(first)
        library.release(second)


def test_another_instance_of_the_same_code_may_make_its_metrics_again(tmp_path: Path, metrics: ModuleType) -> None:
    version = code(tmp_path, METRICS)
    library.acquire(version)
    try:
        one = version.load("part")
        one.another()
        with pytest.raises(ValueError, match="Duplicated"):
            one.another()
        library.renew(version)
        one.another()
        assert one.text() == "another calls size"
        with pytest.raises(ValueError, match="Duplicated"):
            one.another()
        assert metrics.REGISTRY.collectors == {}
    finally:
        library.release(version)


def test_a_library_without_a_shared_registry_is_imported_as_it_is() -> None:
    own = registries.Own()
    own.renew()
    assert own.view(gc) is gc
