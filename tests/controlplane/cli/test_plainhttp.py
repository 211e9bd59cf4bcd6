"""The HTTP client of the command line."""

import subprocess
import sys


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_command_imports_what_only_some_need() -> None:
    run(
        "import sys; from controlplane.cli import apply, get, diff;"
        "heavy = {'rich', 'pygments', 'yaml', 'nodesemver', 'jsonschema_rs', 'asyncio'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )


def test_httpx_is_whole_afterwards() -> None:
    run(
        "import sys; from controlplane.cli.plainhttp import httpx; import httpx as known;"
        "assert httpx is known and httpx.Client;"
        "assert 'httpx._main' not in sys.modules;"
        "from httpx._main import main; assert main"
    )


def test_httpx_that_is_there_already_stays_as_it_is() -> None:
    run("import httpx; before = httpx.main; from controlplane.cli import plainhttp; assert httpx.main is before")
