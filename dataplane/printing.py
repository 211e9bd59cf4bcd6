"""Prints the OpenAPI document of a worker's own pages, for `schemas.publishing`.  Called by `dataplane.__main__`."""

import json
import sys

from dataplane.gateway import documenting
from schemas import names


def main() -> int:
    """Print it; returns the exit code."""
    sys.stdout.write(json.dumps(documenting.document(names.VERSION)) + "\n")
    return 0
