"""Every page is reached, every link leads somewhere, every command line and every example works."""

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
import yaml

from controlplane import settings as control_settings
from controlplane.admission import composing, validating
from controlplane.cli import main, options, touring
from dataplane import settings as data_settings
from schemas.names import MODULES_PREFIX
from tests.doubles import packed, pages
from tests.doubles.packed import Packed
from tests.doubles.pages import PAGES, ROOT, Block, Call

README = ROOT / "README.md"
EXAMPLES = ROOT / "deploy" / "examples"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def parsed(words: Iterable[str]) -> None:
    """Parse a command line of ``modplane`` as the program does; click or argparse refuse what is wrong."""
    verb, *rest = words
    group = main.modplane
    command = group.get_command(click.Context(group), verb)
    assert command is not None, f"there is no command {verb!r}"
    if verb == "controlplane":
        control_settings.load(rest)
    elif verb == "worker":
        data_settings.load(rest)
    elif rest != ["--help"]:
        context = command.make_context(verb, rest)
        if isinstance(command, options.Verb) and isinstance(context.params.get("what"), tuple):
            options.wanted(context.params["what"]) if context.params["what"] else None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in pages.links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if parts.fragment:
            assert parts.fragment in pages.anchors(target), link


def test_the_list_at_the_top_of_the_tasks_has_all_of_them_in_order() -> None:
    page = ROOT / "docs" / "how-to.md"
    tasks = re.findall(r"^## (.+)$", pages.prose(page), re.MULTILINE)
    assert re.findall(r"^- \[(.+)\]\(#", page.read_text(), re.MULTILINE) == tasks


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    todo = [README]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        todo += [(page.parent / urlsplit(link).path).resolve() for link in pages.links(page) if ":" not in link]
    assert seen == set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_one_title_and_lines_that_fit(page: Path) -> None:
    assert len(re.findall(r"^# ", pages.prose(page), re.MULTILINE)) == 1
    long = [line for line in pages.prose(page).splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []


def test_every_command_line_on_the_pages_parses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = pages.all_calls("modplane")
    assert len(found) > 25
    for call in found:
        try:
            parsed(call.words)
        except (click.ClickException, SystemExit) as error:
            pytest.fail(f"{name_of(call.page)}: modplane {' '.join(call.words)}: {error}")


def test_a_wrong_command_line_would_be_found() -> None:
    with pytest.raises(click.ClickException):
        parsed(["get", "modules", "--no-such-option"])
    with pytest.raises(click.ClickException):
        parsed(["up", "--workers", "none"])


def test_every_make_target_on_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {call.words[0] for call in pages.all_calls("make")}
    assert {"up", "test", "setup"} <= called <= targets


def test_every_environment_variable_on_the_pages_is_a_setting() -> None:
    known = {"MODPLANE_SERVER", "MODPLANE_CA_FILE", "MODPLANE_TOKEN", "MODPLANE_DATA_DIR"}
    for settings in (control_settings.Settings, data_settings.Settings):
        prefix = settings.model_config["env_prefix"]
        known |= {f"{prefix}{name.upper()}" for name in settings.model_fields}
    up = main.modplane.get_command(click.Context(main.modplane), "up")
    assert up is not None
    known |= {str(option.envvar) for option in up.params if option.envvar}
    for page in PAGES:
        named = set(re.findall(r"\bMODPLANE_(?!SECRET_)[A-Z_]+[A-Z]\b", page.read_text()))
        on_nats = {"EVENTS", "DESIRED", "WORKERS", "AUDIT", "AUDIT_CHECKPOINTS", "METRICS"}
        assert named - {f"MODPLANE_{name}" for name in on_nats} <= known | {"MODPLANE_WORKERS"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_manifest_on_the_pages_is_valid(page: Path) -> None:
    for block in pages.blocks(page, "yaml"):
        for document in composing.compose(block.text.encode()):
            assert document.problems == []
            normal, violations = validating.validate(document.value)
            assert violations == [], block.text
            assert normal is not None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_json_on_the_pages_is_json(page: Path) -> None:
    for block in pages.blocks(page, "json"):
        json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_on_the_pages_compiles_and_every_module_builds(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(pages.blocks(page, "python")):
        tree = ast.parse(block.text)
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        if not classes:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        source = classes[0].lower()
        (folder / f"{source}.py").write_text(block.text)
        found = Packed(folder, source, tmp_path / "code")
        assert len(found.inspected().candidates) == 1
        assert found.inspected(f"{source}:{classes[0]}").routes
        found.built(f"{source}:{classes[0]}").unload()


def first_module() -> tuple[Block, dict[str, object]]:
    (source,) = pages.blocks(README, "python")
    (manifest,) = pages.blocks(README, "yaml")
    return source, yaml.safe_load(manifest.text)


def readme_calls() -> list[Call]:
    """The calls of modules."""
    calls = [call for call in pages.all_calls("curl") if call.page == README]
    return [call for call in calls if any(MODULES_PREFIX in word for word in call.words)]


def test_the_curl_lines_of_the_readme_answer_what_it_says(tmp_path: Path) -> None:
    """Each URL is asked of the module itself; `-i` shows a guarded route."""
    source, manifest = first_module()
    own = tmp_path / "modules"
    own.mkdir()
    (own / "greeter.py").write_text(source.text)
    greetings: list[str] = []
    for call in readme_calls():
        url = next(word for word in call.words if word.startswith("http"))
        namespace, _, path = url.partition("/api/v1/modules/v1/")[2].partition("/")
        if namespace == touring.MODULE:
            continue  # typed line by line in tests/journeys/test_token_journey.py
        name = namespace.replace("-", "_")
        found = Packed(own if name == "greeter" else EXAMPLES, name, tmp_path / "code")
        entry_point = found.inspected().candidates[0].entry_point
        (route,) = [each for each in found.inspected(entry_point).routes if matches(each.path, f"/{path}")]
        assert route.auth is not None
        assert (route.auth.level == "NONE") is ("-i" not in call.words)
        if route.auth.level != "NONE":
            shown = any("Bearer" in word for word in call.words)
            said = {"HTTP/1.1 200 OK", "HTTP/1.1 403 Forbidden"} if shown else {"HTTP/1.1 401 Unauthorized"}
            assert call.printed in said  # which one: tests/journeys/test_token_journey.py
            continue
        config = manifest["spec"]["config"] if greetings else {}  # type: ignore[index]
        instance = found.built(entry_point, config)
        answer = packed.ask(instance, f"/{path}", body(call))
        instance.unload()
        assert answer.status_code == 200
        assert answer.text == call.printed
        if name == "greeter":
            greetings.append(answer.json()["greeting"])
    assert greetings == ["Hello, Ada!", "Servus, Ada!"]


def test_the_manifest_of_the_readme_is_for_its_module(tmp_path: Path) -> None:
    source, manifest = first_module()
    (tmp_path / "greeter.py").write_text(source.text)
    (candidate,) = Packed(tmp_path, "greeter", tmp_path / "code").inspected().candidates
    spec = manifest["spec"]
    assert isinstance(spec, dict)
    assert candidate.entry_point == spec["entryPoint"]
    assert manifest["metadata"] == {"name": candidate.module_id}


def body(call: Call) -> object | None:
    return json.loads(call.words[call.words.index("-d") + 1]) if "-d" in call.words else None


def matches(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def test_the_changelog_tells_of_this_version() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [Unreleased] – {version}" in (ROOT / "CHANGELOG.md").read_text()
