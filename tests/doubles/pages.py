"""The documentation as data: pages, sections, code blocks, tables, links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_SUBSTITUTION = re.compile(r"[A-Z_]+=\$\((.+)\)")
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    language: str
    text: str


@dataclass(frozen=True)
class Call:
    """One command line of a shell block, and what the page says it prints."""

    page: Path
    words: tuple[str, ...]
    environment: tuple[str, ...]
    printed: str


def reference(name: str) -> str:
    """The text of a reference page."""
    return (ROOT / "docs" / "reference" / f"{name}.md").read_text()


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of one language."""
    return [Block(page, *found) for found in _FENCE.findall(page.read_text()) if found[0] == language]


def prose(page: Path) -> str:
    """The text without fenced blocks."""
    return _FENCE.sub("", page.read_text())


def section(text: str, heading: str) -> str:
    """What stands under a heading of level two or three, up to the next of its level."""
    found = re.search(rf"^(##+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found is not None, f"there is no heading {heading!r}"
    rest = text[found.end() :]
    following = re.search(rf"^{found.group(1)} |^## ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page make, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings(page)}


def headings(page: Path) -> list[str]:
    """Every heading of a page."""
    return _HEADING.findall(prose(page))


def links(page: Path) -> list[str]:
    """Every link target of a page."""
    return _LINK.findall(prose(page))


def code_words(text: str) -> set[str]:
    """Everything between single backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = {number for number, row in enumerate(cells) if all(set(cell) <= set("-: ") for cell in row) and any(row)}
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def calls(block: Block, program: str) -> Iterator[Call]:
    """The calls of ``program`` in a shell block, with the comment lines behind each."""
    lines = block.text.replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("#", " ")) or not line.strip():
            continue
        try:
            words = shlex.split(line.partition(" | ")[2] if " | " in line else line)
        except ValueError:  # a quotation over several lines: not one of ours
            continue
        if inner := _SUBSTITUTION.fullmatch(line):
            words = shlex.split(inner.group(1))
        environment = [word for word in words if _ASSIGNMENT.fullmatch(word)]
        words = words[len(environment) :]
        if not words or words[0] != program:
            continue
        said = []
        for after in lines[number + 1 :]:
            if not after.startswith("# "):
                break
            said.append(after[2:])
        yield Call(block.page, tuple(words[1:]), tuple(environment), "\n".join(said))


def all_calls(program: str) -> list[Call]:
    """The calls of ``program`` on every page."""
    return [call for page in PAGES for block in blocks(page, "sh") for call in calls(block, program)]
