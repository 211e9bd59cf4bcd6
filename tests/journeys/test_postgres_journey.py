"""The same main job over PostgreSQL: apply, rows, a killed control plane, deletion."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.doubles.databases import Postgres, postgres_server
from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running, wait_for

__all__ = ["postgres_server"]

pytestmark = [pytest.mark.processes, pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def database(postgres_server: Postgres) -> str:
    return postgres_server.empty()


@pytest.fixture
def platform(tmp_path: Path, database: str) -> Iterator[Platform]:
    url = database.replace("postgresql://", "postgresql+psycopg://", 1)
    with running(tmp_path, examples=False, workers=2, environment={**BY_HAND, "MODPLANE_DATABASE_URL": url}) as started:
        yield started


def test_the_main_job_over_postgresql(platform: Platform, database: str) -> None:
    for name in ("first", "by_row"):
        (platform.modules / f"{name}.py").write_text(module_source(name))
    assert "created" in platform.cli("apply", "--wait", "-f", "-", stdin=manifest("first"))
    assert platform.call("v1/first/hello").status_code == 200
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO analytics_modules (id, name, module_type, entry_point)"
            " VALUES ('by_row', 'By Row', 'core', 'by_row:ByRowModule')"
        )
        platform.wait_state("by-row", "ACTIVE")

        platform.child("controlplane", "serve").send_signal(signal.SIGKILL)

        def answers() -> bool:
            try:
                return platform.admin.get(f"{platform.control}/ready").status_code == 200
            except httpx.HTTPError:
                return False

        wait_for(answers, timeout=30)
        connection.execute("DELETE FROM analytics_modules WHERE id = 'by_row'")
        platform.wait_state("by-row", None)
    assert platform.call("v1/by-row/hello").status_code == 404
    stored = platform.object("modules", "first")
    assert stored is not None
    assert stored["status"]["workers"] == {"desired": 2, "applied": 2, "rejected": 0, "joining": 0, "lost": 0}
    platform.cli("delete", "module/first")
    assert platform.object("modules", "first") is None
