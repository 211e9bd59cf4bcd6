"""The short way to what a selector can match: by name, or all events of one module; else everything is looked at.

Called by list and watch on a reading; whatever is found here still has to match the whole selector.
"""

from controlplane.api import selecting
from controlplane.store import readings
from controlplane.store.records import Record
from schemas import kinds

EVENTS = 100_000
"""Of one module, at most; they are kept 30 days."""


def candidates(reading: readings.Reading, kind: kinds.Kind, selector: selecting.Selector) -> list[Record] | None:
    """The few objects among which a selector's matches are, in the order of names; None: there is no short way."""
    name = selector.value("metadata.name")
    if name is not None:
        return reading.list(kind.name, names={name})
    module = selector.value("spec.module") if kind.name == "ModuleEvent" else None
    if module is not None:
        return sorted(reading.events_of(module, EVENTS), key=lambda record: record.name)
    return None
