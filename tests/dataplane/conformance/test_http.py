"""FastAPI's documented behaviours over HTTP: the gateway answers what plain FastAPI answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane.conformance.behaviours.module import Behaviours, Unlayered
from tests.doubles.platform import wait_for
from tests.doubles.twins import Twins, twins

FOLDER = Path(__file__).parent / "behaviours"


@pytest.fixture(scope="module", params=[Behaviours, Unlayered])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins(request.param, FOLDER, tmp_path_factory.mktemp("code"), config={"a": 1}) as running:
        yield running


def case(method: str, path: str, **more: Any) -> Any:
    words = ",".join(f"{key}={value!r}"[:40] for key, value in more.items())
    return pytest.param(method, path, more, id=f"{method} {path} {words}".strip())


ITEM = {"name": "pen", "price": "2.25", "tags": ["a"], "colour": "blue"}

CASES = [
    # path parameters and converters
    case("GET", "/path/7/typed"),
    case("GET", "/path/4dc6ed4f-1e4f-4e0b-9c4e-2b6f8d1f6b8c/uuid"),
    case("GET", "/path/no-uuid/uuid"),
    case("GET", "/path/0.25/share"),
    case("GET", "/rest/a/b/c.txt"),
    case("GET", "/rest/"),
    case("GET", "/colour/red"),
    case("GET", "/colour/green"),
    case("GET", "/word/caf%C3%A9%20au%20lait"),
    case("GET", "/word/a+b;c=d@e"),
    # query
    case("GET", "/query?number=3"),
    case("GET", "/query?number=3&flag=on&many=a&many=b&other-name=aa"),
    case("GET", "/query?number=x&flag=perhaps&other-name=aaaa"),
    case("GET", "/query"),
    case("GET", "/query/model?limit=3&order=down"),
    case("GET", "/query/model?limit=0&more=1"),
    # headers and cookies
    case("GET", "/headers", headers={"user-agent": "me", "x-token": "one", "strange": "s"}),
    case("GET", "/headers", headers=[("user-agent", "me"), ("x-token", "one"), ("x-token", "two")]),
    case("GET", "/cookies"),
    case("GET", "/cookies", headers={"cookie": "visit=41; other=x"}),
    case("GET", "/cookies", headers={"cookie": "visit=x"}),
    # bodies
    case("POST", "/items", json=ITEM),
    case("POST", "/items", json={"price": "free", "tags": "a", "colour": "green"}),
    case("POST", "/items", content=b"{broken", headers={"content-type": "application/json"}),
    case("POST", "/items", content=b'{"name": "a"}', headers={"content-type": "text/plain"}),
    case("POST", "/items"),
    case("POST", "/items", content=b"[]", headers={"content-type": "application/json"}),
    case("PUT", "/items/3?q=a", json={"item": ITEM, "importance": 2}),
    case("PUT", "/items/x", json={"item": {}, "importance": -1}),
    case("PATCH", "/embedded", json={"item": {"name": "a"}}),
    case("PATCH", "/embedded", json={"name": "a"}),
    case("POST", "/animal", json={"kind": "cat", "lives": 9}),
    case("POST", "/animal", json={"kind": "dog", "barks": True}),
    case("POST", "/animal", json={"kind": "fish"}),
    case("POST", "/anything", json=[1, {"a": None}]),
    case("POST", "/anything"),
    case("POST", "/numbers", json={"1": 2, "3": 4.5}),
    case("POST", "/numbers", json={"one": "two"}),
    case("POST", "/types", json={"at": "2030-01-01T00:00:00Z", "span": 90}),
    case("POST", "/raw", content="grüße".encode(), headers={"content-type": "text/x-own"}),
    case("POST", "/count", content=b"x" * 300_000),
    case("DELETE", "/items/3"),
    # forms and files
    case("POST", "/form", data={"name": "Ada", "ages": ["3", "4"]}),
    case("POST", "/form", data={"ages": ["x"]}),
    case("POST", "/form/model", data={"limit": "7"}),
    case("POST", "/form/model", data={"limit": "7", "more": "1"}),
    case("POST", "/file", files={"content": ("a.txt", b"hello")}, data={"note": "n"}),
    case("POST", "/file", files={}),
    case("POST", "/uploads", files=[("files", ("a.txt", b"a", "text/plain")), ("files", ("b.bin", b"bb"))]),
    case("POST", "/upload/sync", files={"file": ("a.txt", b"from a thread")}),
    case("POST", "/uploads", content=b"--x\r\nbroken", headers={"content-type": "multipart/form-data; boundary=x"}),
    # response models, status codes, custom answers
    case("GET", "/model"),
    case("GET", "/model/unset"),
    case("GET", "/model/include"),
    case("GET", "/model/list"),
    case("GET", "/teapot"),
    case("GET", "/changed"),
    case("GET", "/html"),
    case("GET", "/text"),
    case("GET", "/own"),
    case("GET", "/self"),
    case("GET", "/download"),
    case("GET", "/download", headers={"range": "bytes=0-9"}),
    case("GET", "/download", headers={"range": "bytes=5-9,20-29"}),
    case("GET", "/download", headers={"range": "bytes=999999-"}),
    case("GET", "/big", headers={"accept-encoding": "gzip"}),
    case("GET", "/big", headers={"accept-encoding": "identity"}),
    case("GET", "/several"),
    case("POST", "/several"),
    case("HEAD", "/several"),
    case("OPTIONS", "/several"),
    case("HEAD", "/only-head"),
    case("GET", "/decorated"),
    case("GET", "/at"),
    # dependencies
    case("GET", "/yielded?name=a"),
    case("GET", "/yielded/teapot"),
    case("GET", "/yielded/converted"),
    case("GET", "/pages?skip=3"),
    case("GET", "/pages?skip=x"),
    case("GET", "/once"),
    case("GET", "/fresh"),
    case("GET", "/bearer"),
    case("GET", "/bearer", headers={"authorization": "Bearer abc"}),
    case("GET", "/http-bearer"),
    case("GET", "/http-bearer", headers={"authorization": "Basic abc"}),
    case("GET", "/basic"),
    case("GET", "/basic", headers={"authorization": "Basic YWRhOnB3"}),
    case("GET", "/key"),
    case("GET", "/key", headers={"x-key": "k"}),
    case("GET", "/sync"),
    case("GET", "/state"),
    # exceptions
    case("GET", "/raise/teapot"),
    case("GET", "/raise/http"),
    case("GET", "/raise/gone"),
    case("GET", "/raise/turned-409"),
    case("GET", "/raise/turned-410"),
    case("GET", "/raise/turned-teapot"),
    case("GET", "/raise/validation"),
    case("GET", "/raise/404"),
    case("GET", "/raise/304"),
    # streams
    case("GET", "/stream"),
    case("GET", "/stream/sync"),
    case("GET", "/events", headers={"accept": "text/event-stream"}),
    case("GET", "/sse"),
    case("GET", "/sse", headers={"last-event-id": "2"}),
    case("POST", "/sse/sync", json=ITEM),
    case("GET", "/lines"),
    case("GET", "/lines/sync"),
    # addresses and redirects
    case("GET", "/links/3?a=b&c=%20d"),
    case("GET", "/go"),
    case("GET", "/go/see"),
    case("GET", "/"),
    # included routers and mounts
    case("GET", "/part/inner/3"),
    case("GET", "/part/inner/3", headers={"x-note": "bad"}),
    case("GET", "/part/inner/x"),
    case("GET", "/part/more/deep"),
    case("GET", "/files/a.txt"),
    case("HEAD", "/files/a.txt"),
    case("GET", "/files/"),
    case("GET", "/files/none.txt"),
    case("POST", "/files/a.txt"),
    case("GET", "/mounted/here?a=b"),
    case("GET", "/mounted/again/word"),
    case("GET", "/mounted/none"),
]


@pytest.mark.parametrize(("method", "path", "more"), CASES)
def test_the_gateway_answers_as_plain_fastapi(both: Twins, method: str, path: str, more: dict[str, Any]) -> None:
    plain, hosted = both.ask(method, path, **more)
    assert hosted == plain
    assert plain[0] != 500


def test_dependencies_with_yield_and_background_tasks_run_in_the_same_order(both: Twins) -> None:
    both.ask("GET", "/log")
    for path in ("/yielded?name=a", "/yielded/teapot", "/yielded/converted", "/background"):
        both.ask("GET", path)
        plain, hosted = both.ask("GET", "/log")
        assert hosted == plain
        assert plain[2] not in {"", "[]"}


@pytest.mark.parametrize("path", ["/endless", "/gone"])
def test_a_stream_ends_when_its_client_leaves(both: Twins, path: str) -> None:
    for url in (both.plain, both.hosted + both.prefix):
        before = both.client.get(f"{url}/endless/ended").json()
        with both.client.stream("GET", url + path) as stream:
            assert next(stream.iter_text())
        wait_for(lambda url=url, before=before: both.client.get(f"{url}/endless/ended").json() == before + 1)


def test_wrong_methods_are_405_with_the_same_allow(both: Twins) -> None:
    for method, path in (("POST", "/model"), ("GET", "/items"), ("HEAD", "/model"), ("OPTIONS", "/model")):
        plain, hosted = both.ask(method, path)
        assert (plain[0], hosted[0]) == (405, 405)
        assert dict(plain[1])["allow"] == dict(hosted[1])["allow"]


def test_the_other_slash_form_is_redirected_to(both: Twins) -> None:
    for method, path in (("GET", "/with-slash"), ("POST", "/without-slash/"), ("GET", "/with-slash?a=%20b")):
        plain, hosted = both.ask(method, path)
        assert (plain[0], hosted[0]) == (307, 307)
        # ours is relative to the host that the caller asked, which is the same place
        assert dict(plain[1])["location"] == "http://door" + dict(hosted[1])["location"]
        assert dict(hosted[1])["content-length"] == "0"


def test_what_nobody_answers_is_a_problem_document_instead_of_a_bare_detail(both: Twins) -> None:
    plain, hosted = both.ask("GET", "/none")
    assert (plain[0], plain[2]) == (404, '{"detail":"Not Found"}')
    assert hosted[0] == 404
    assert dict(hosted[1])["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/crash", "/crash/sync", "/crash/model"])
def test_a_crash_is_500_on_both_sides_and_shows_nothing_of_its_reason(both: Twins, path: str) -> None:
    plain, hosted = both.ask("GET", path)
    assert (plain[0], hosted[0]) == (500, 500)
    assert plain[2] == "Internal Server Error"
    assert dict(hosted[1])["content-type"] == "application/problem+json"
    assert "secret" not in hosted[2]
    assert both.ask("GET", "/at")[1][0] == 200


def test_a_literal_path_goes_before_a_template_wherever_it_was_registered(both: Twins) -> None:
    plain, hosted = both.ask("GET", "/word/fixed")
    assert plain[2] == '{"word":"fixed"}'
    assert hosted[2] == '"after the template"'


def test_paths_that_two_readers_could_read_differently_are_refused(both: Twins) -> None:
    for path in ("/rest/a%2Fb", "/rest/a//b", "/rest/a/%2e%2e/b"):
        plain, hosted = both.ask("GET", path)
        assert (plain[0], hosted[0]) == (200, 400)


def test_addresses_are_right_behind_an_outer_prefix(tmp_path: Path) -> None:
    with twins(Behaviours, FOLDER, tmp_path, root_path="/outer") as both:
        for path in ("/links/3", "/go", "/go/see", "/mounted/here", "/files/a.txt"):
            plain, hosted = both.ask("GET", path)
            assert hosted == plain
        plain, hosted = both.ask("GET", "/with-slash")
        assert (
            dict(plain[1])["location"] == "http://door" + dict(hosted[1])["location"] == "http://door/outer/with-slash/"
        )
        assert "/outer/" in both.ask("GET", "/links/3")[1][2]
