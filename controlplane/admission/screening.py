"""What accepts exactly what a model accepts, and makes nothing of it: for documents of which most are good.

Always holds: only what a model does after it has accepted is left out, which is most of its work: objects are not made,
and defaults, which no model looks at, not filled in.  Called by `checking`, which asks the model itself for the words
about a document that does not pass.
"""

import functools
from typing import Any

from pydantic_core import CoreSchema, SchemaValidator

from schemas.meta import Model


@functools.cache
def screen(model: type[Model]) -> SchemaValidator:
    """The validator of a model's fields alone."""
    return SchemaValidator(_bare(model.__pydantic_core_schema__))


def _bare(schema: CoreSchema) -> Any:
    """A schema, each model in it replaced by its fields and each default by None.

    What is of another sort stays as it is, above all what calls code of a model's own.
    """
    bare: dict[str, Any] = dict(schema)
    match bare["type"]:
        case "model" if bare["custom_init"] or bare.get("post_init") or bare["root_model"]:
            return bare
        case "model":
            return {**_bare(bare["schema"]), "ref": bare["ref"]}
        case "model-fields":
            bare["fields"] = {
                name: {**field, "schema": _bare(field["schema"])} for name, field in bare["fields"].items()
            }
        case "definitions":
            bare["definitions"] = [_bare(part) for part in bare["definitions"]]
            bare["schema"] = _bare(bare["schema"])
        case "default" if "default" in bare:
            bare |= {"default": None, "schema": _bare(bare["schema"])}
        case "nullable":
            bare["schema"] = _bare(bare["schema"])
        case "list":
            bare["items_schema"] = _bare(bare["items_schema"])
    return bare
