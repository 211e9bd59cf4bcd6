"""No web page on the machine can drive the control plane."""

import pytest

from controlplane.api import guarding
from tests.doubles import apiparts


@pytest.mark.parametrize("host", ["127.0.0.1:7400", "localhost", "LOCALHOST:1", "[::1]:7400", "localhost.:7400"])
async def test_names_of_this_machine_are_answered(parts: apiparts.Parts, host: str) -> None:
    assert (await parts.client.get("/health", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7400", "127.0.0.1.evil.example", "", "[::2]"])
async def test_a_rebound_name_is_refused_and_told_how_to_call(parts: apiparts.Parts, host: str) -> None:
    answer = await parts.client.get(apiparts.MODULES, headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["kind"] == "Status"
    assert "127.0.0.1" in answer.json()["message"]


async def test_two_hosts_are_refused(parts: apiparts.Parts) -> None:
    answer = await parts.client.get("/health", headers=[("host", "localhost"), ("host", "evil.example")])
    assert answer.status_code == 400


@pytest.mark.parametrize("path", [apiparts.MODULES, "/api/v1/module-management/modules/discover"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:7400"])
async def test_a_web_page_is_refused_and_gets_no_cors_header(parts: apiparts.Parts, path: str, origin: str) -> None:
    answer = await parts.client.post(path, headers={"origin": origin, "content-type": "text/plain"}, content=b"{}")
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert parts.discoverer.asked == 0


@pytest.mark.parametrize(
    ("site", "code"), [("cross-site", 403), ("same-site", 403), ("none", 200), ("same-origin", 200)]
)
async def test_fetch_metadata_of_other_sites_is_refused(parts: apiparts.Parts, site: str, code: int) -> None:
    assert (await parts.client.get(apiparts.MODULES, headers={"sec-fetch-site": site})).status_code == code


async def test_a_preflight_gets_no_permission(parts: apiparts.Parts) -> None:
    answer = await parts.client.options(apiparts.MODULES, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403


def test_host_names_lose_port_and_case() -> None:
    assert guarding.host_name(" LocalHost.:80 ") == "localhost"
    assert guarding.host_name("[::1]:80") == "[::1]"
