"""JSON Merge Patch (RFC 7386): what a patch body does to a document.

Always holds: neither argument is changed; the answer shares no object with them that anybody may write.
Called by the write path; `defaulting` and `validating` look at the result.
"""

import copy
from typing import Any

from schemas.meta import Json


def merge_patch(target: Any, patch: Any) -> Any:
    """``target`` after ``patch``: null removes a member, objects merge, everything else replaces.

    Depth is bounded by whoever read the patch (`composing`), so recursion is safe here.
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result: Json = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result
