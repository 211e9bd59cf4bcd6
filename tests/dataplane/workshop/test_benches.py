"""The bench keeps a host in step with a path: news are swapped in, failures told once, the last good serves on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dataplane.gateway import hosting
from dataplane.workshop import benches, inspecting
from schemas.inspections import InspectionOutcome, InspectionRequest
from tests.doubles.sources import SMALL, write

MANIFEST = """\
apiVersion: modplane.dev/v1
kind: Module
metadata: {name: small}
spec: {entryPoint: "small:Small", config: {a: 1}}
"""


class Shop:
    """A bench over a folder, and what it told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[benches.Told] = []
        self.host = hosting.Host(grace=0.1)
        self.refusals: list[str] = []
        self.bench = benches.Bench(path, self.host, self.told.append, check=self._check)

    async def _check(self, file: Path) -> list[str]:
        return list(self.refusals)

    async def save(self, **files: str | None) -> list[tuple[str, int, str]]:
        """Save files (``a__b`` is ``a.b``; None removes), look, and give what was told: subject, generation, what."""
        for name, text in files.items():
            file = self.path / name.replace("__", ".")
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        self.told.clear()
        await self.bench.refresh()
        return [
            (told.subject, told.generation, told.reason or ("gone" if told.gone else "serves")) for told in self.told
        ]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    (tmp_path / "modules").mkdir()
    made = Shop(tmp_path / "modules")
    with made.bench:
        yield made
        await made.host.close()
    assert not made.bench.code_root.exists()


async def test_news_are_swapped_in_and_nothing_new_costs_nothing(shop: Shop) -> None:
    assert await shop.save(small__py=SMALL) == [("small", 1, "serves")]
    assert await shop.save() == []
    assert await shop.save(small__py=SMALL + "x = 1\n") == [("small", 2, "serves")]
    assert await shop.save(other__py=SMALL.replace('"small"', '"other"')) == [("other", 1, "serves")]
    assert await shop.save(small__py=None) == [("small", 0, "gone")]
    assert list(shop.host.snapshot.modules) == ["other"]


async def test_a_failure_is_told_once_with_its_place_and_the_last_good_serves(shop: Shop) -> None:
    await shop.save(small__py=SMALL)
    assert await shop.save(small__py=SMALL + "1 / 0\n") == [("small", 1, "ImportFailed")]
    line = len(SMALL.splitlines()) + 1
    assert shop.told[0].message.startswith(f"{shop.path}/small.py:{line}: ZeroDivisionError")
    assert await shop.save(notes__txt="x") == []
    assert shop.host.snapshot.modules["small"].generation == 1
    assert await shop.save(small__py=SMALL + "y = 2\n") == [("small", 2, "serves")]


async def test_a_module_that_does_not_start_is_told_and_not_published(shop: Shop) -> None:
    broken = SMALL + '\n    async def on_startup(self):\n        raise RuntimeError("no database")\n'
    ((subject, generation, reason),) = await shop.save(small__py=broken)
    assert (subject, generation) == ("small", 0)
    assert reason not in ("", "serves")
    assert "no database" in shop.told[0].message
    assert dict(shop.host.snapshot.modules) == {}


async def test_one_sources_failure_leaves_the_others_alone(shop: Shop) -> None:
    told = await shop.save(
        small__py=SMALL, bad__py="from dataplane.sdk import BaseModuleRouter\n1 / 0\n", none__py="x = 1"
    )
    assert told == [("bad", 0, "ImportFailed"), ("none", 0, "NoModule"), ("small", 1, "serves")]


async def test_a_manifest_wins_and_its_refusal_keeps_the_last_good(shop: Shop) -> None:
    assert await shop.save(small__py=SMALL, small__yaml=MANIFEST) == [("small", 1, "serves")]
    assert shop.host.snapshot.modules["small"].desired.config == {"a": 1}
    shop.refusals = ["small.yaml:4:1: no"]
    assert await shop.save(small__yaml=MANIFEST + "# changed\n") == [("modules", 0, "ManifestInvalid")]
    assert await shop.save(small__py=SMALL + "x = 1\n") == [("small", 2, "serves")]
    shop.refusals = []
    assert await shop.save(small__yaml=MANIFEST.replace("a: 1", "a: 2")) == [("small", 3, "serves")]
    assert await shop.save(small__yaml="kind: [") == [("modules", 0, "ManifestInvalid")]
    assert shop.host.snapshot.modules["small"].generation == 3


async def test_a_clash_with_another_module_here_is_told(shop: Shop) -> None:
    same = SMALL.replace('module_id="small"', 'module_id="other", routing=ModuleRouteConfig(namespace="small")')
    same = same.replace("import BaseModuleRouter,", "import BaseModuleRouter, ModuleRouteConfig,")
    assert await shop.save(small__py=SMALL) == [("small", 1, "serves")]
    assert await shop.save(other__py=same) == [("other", 0, "RouteConflict")]
    assert shop.told[0].message.startswith(f"{shop.path}/other.py:8: GET /hello in v1/small is held by module small")
    assert await shop.save(small__py=None) == [("small", 0, "gone"), ("other", 1, "serves")]


async def test_an_entry_point_elsewhere_is_told(tmp_path: Path) -> None:
    place = write(tmp_path, {"small/__init__.py": SMALL, "small/module.yaml": MANIFEST.replace("small:", "smal:")})
    shop = Shop(place / "small")
    with shop.bench:
        assert await shop.save() == [("small", 0, "SourceMissing")]
        assert "name the folder it is in" in shop.told[0].message
        assert await shop.save(module__yaml=MANIFEST) == [("small", 1, "serves")]
        assert await shop.save(module__yaml="") == [("small", 1, "ManifestInvalid")]
        assert "there is no Module in it" in shop.told[0].message
        await shop.host.close()


async def test_a_path_that_vanishes_is_told_once_and_may_come_back(shop: Shop) -> None:
    await shop.save(small__py=SMALL)
    assert await shop.save(small__py=None) == [(str(shop.path), 0, "SourceMissing")]
    assert await shop.save() == []
    assert await shop.save(small__py=SMALL + "x = 1\n") == [("small", 2, "serves")]


async def test_old_copies_do_not_pile_up(shop: Shop) -> None:
    for number in range(5):
        await shop.save(small__py=SMALL + f"x = {number}\n")
    assert len(list(shop.bench.code_root.iterdir())) == 1


async def test_the_inspecting_child_answers_and_is_started_again(tmp_path: Path) -> None:
    write(tmp_path, {"small.py": SMALL, "bad.py": "import os\nos._exit(3)  # BaseModuleRouter\n"})
    inspector = inspecting.Inspector()

    async def ask(top: str) -> tuple[InspectionOutcome, str]:
        digest = "sha256:" + "0" * 64
        request = InspectionRequest(id=top, root=str(tmp_path), source_path=top, digest=digest)
        report = await inspector.inspect(request)
        return report.outcome, report.reason

    assert await ask("small") == (InspectionOutcome.OK, "")
    assert await ask("bad") == (InspectionOutcome.CRASHED, "ProcessDied")
    assert inspector._process is not None
    inspector._process.kill()
    assert await ask("small") in [(InspectionOutcome.CRASHED, "InspectorGone"), (InspectionOutcome.OK, "")]
    assert await ask("small") == (InspectionOutcome.OK, "")
    await inspector.close()
    await inspector.close()


def test_a_folder_is_shown_as_seen_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert benches.shown(tmp_path) == ""
    assert benches.shown(tmp_path / "modules") == "modules/"
    assert benches.shown(Path("/elsewhere")) == "/elsewhere/"
    assert benches.placed("no place here", tmp_path) == "no place here"
