"""What `modplane up` makes for its user: token, certificate, kubeconfig, and all of them anew every day."""

import asyncio
import base64
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.cli import admitting, exits
from tests.doubles.clock import FakeClock

URL = "https://127.0.0.1:7400"
DAY = 86_400.0


@pytest.fixture
def admission(tmp_path: Path) -> admitting.Admission:
    return admitting.Admission(tmp_path, FakeClock())


def kubeconfig(admission: admitting.Admission) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(admission.kubeconfig.read_text())
    return found


def test_a_kubeconfig_has_the_address_the_authority_and_the_token(admission: admitting.Admission) -> None:
    (line,) = admission.prepare(URL)
    assert str(admission.ca_file) in line
    found = kubeconfig(admission)
    (context,) = [each["context"] for each in found["contexts"] if each["name"] == found["current-context"]]
    (cluster,) = [each["cluster"] for each in found["clusters"] if each["name"] == context["cluster"]]
    (user,) = [each["user"] for each in found["users"] if each["name"] == context["user"]]
    assert (found["apiVersion"], found["kind"]) == ("v1", "Config")
    assert cluster["server"] == URL
    assert base64.b64decode(cluster["certificate-authority-data"]) == admission.ca_file.read_bytes()
    assert user["token"] == admission.token_file.read_text().strip()
    for path in (admission.kubeconfig, admission.token_file, admission.server_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_start_keeps_the_authority_and_renews_the_rest(admission: admitting.Admission) -> None:
    admission.prepare(URL)
    before = [path.read_bytes() for path in (admission.ca_file, admission.server_file, admission.kubeconfig)]
    assert admission.prepare(URL) == []
    after = [path.read_bytes() for path in (admission.ca_file, admission.server_file, admission.kubeconfig)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_a_damaged_authority_ends_the_start_with_what_to_do(admission: admitting.Admission) -> None:
    admission.prepare(URL)
    admission.ca_file.write_text("nonsense")
    with pytest.raises(exits.Exit, match="holds no certificate") as raised:
        admission.prepare(URL)
    assert raised.value.code == exits.REFUSED
    assert "Delete the folder" in raised.value.hint


async def test_everything_is_renewed_every_day_also_after_the_machine_slept(admission: admitting.Admission) -> None:
    clock = admission.clock
    assert isinstance(clock, FakeClock)
    admission.prepare(URL)
    told: list[str] = []
    keeping = asyncio.create_task(admission.keep(URL, told.append))
    await clock.settle()
    shown = admission.server_file.read_bytes()
    clock.jump(DAY - 200)
    await clock.advance(100)
    assert admission.server_file.read_bytes() == shown
    await clock.advance(160)
    assert admission.server_file.read_bytes() != shown
    shown, token = admission.server_file.read_bytes(), admission.token_file.read_bytes()
    clock.jump(3 * DAY)
    await clock.advance(61)
    assert admission.server_file.read_bytes() != shown
    assert admission.token_file.read_bytes() != token
    assert told == []
    keeping.cancel()


async def test_a_day_that_fails_is_told_once_and_made_good(admission: admitting.Admission) -> None:
    clock = admission.clock
    assert isinstance(clock, FakeClock)
    admission.prepare(URL)
    told: list[str] = []
    keeping = asyncio.create_task(admission.keep(URL, told.append))
    await clock.settle()
    good = admission.ca_file.read_bytes()
    admission.ca_file.write_text("nonsense")
    shown = admission.server_file.read_bytes()
    clock.jump(DAY)
    await clock.advance(300)
    assert len(told) == 1
    assert "cannot renew" in told[0]
    assert admission.server_file.read_bytes() == shown
    admission.ca_file.write_bytes(good)
    await clock.advance(61)
    assert admission.server_file.read_bytes() != shown
    keeping.cancel()
