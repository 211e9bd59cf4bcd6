"""What the texts below the attributes of classes say, read from the source when somebody asks.

Python throws these texts away, so they are looked up in the file of the class: once for all classes of a file.  What
has no file has no texts.  Called by `schemas.meta`, which puts them into JSON Schemas.
"""

import ast
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping


def below_attributes(described: type) -> Mapping[str, str]:
    """Attribute → the text below it; those without one are left out."""
    return _of_file(described.__module__).get(described.__qualname__, {})


@functools.cache
def _of_file(module: str) -> Mapping[str, Mapping[str, str]]:
    """Qualified name of each class → `below_attributes`."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, KeyError, TypeError, SyntaxError):
        return {}
    return dict(_classes(tree.body, ""))


def _classes(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            name = f"{prefix}{statement.name}"
            yield name, dict(_texts(statement.body))
            yield from _classes(statement.body, f"{name}.")


def _texts(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
