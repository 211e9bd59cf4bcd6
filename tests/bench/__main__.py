"""``python -m tests.bench [NAME…]``: run the benches and print their tables.

Figures are medians of interleaved rounds on whatever machine this is; compare within one table only.
"""

import platform as machine
import sys
import tempfile
from pathlib import Path

import psutil

from tests.bench import auth, bulk, conflicts, dispatch, documents, inspection, metrics, propagation, storm, tracing

BENCHES = {
    "conflicts": conflicts.run,
    "propagation": propagation.run,
    "dispatch": dispatch.run,
    "auth": auth.run,
    "storm": storm.run,
    "tracing": tracing.run,
    "bulk": bulk.run,
    "inspection": inspection.run,
    "metrics": metrics.run,
    "documents": documents.run,
}


def main() -> None:
    """Run the named benches, or all."""
    wanted = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        sys.exit(f"no bench called {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
    print(
        f"{machine.python_implementation()} {machine.python_version()}, {psutil.cpu_count()} cores, {machine.machine()}"
    )
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="modplane-bench-") as folder:
            print(BENCHES[name](Path(folder)), flush=True)


if __name__ == "__main__":
    main()
