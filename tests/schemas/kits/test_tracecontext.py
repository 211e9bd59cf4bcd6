"""Trace context: the cases of the W3C's own test suite as tables, the limits, and what always holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.kits import tracecontext

TRACE = "12345678901234567890123456789012"
SPAN = "1234567890123456"
GOOD = f"00-{TRACE}-{SPAN}-01"


def carried(*headers: tuple[str, str]) -> tracecontext.Carried:
    return tracecontext.read([(name.lower().encode(), value.encode("latin-1")) for name, value in headers])


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"cc-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f"cc-{TRACE}-{SPAN}-01-",
        f" {GOOD}",
        f"\t{GOOD}",
        f"{GOOD} ",
        f"{GOOD}\t",
        f"\t {GOOD} \t",
        f"00-{TRACE}-{SPAN}-ff",
    ],
)
def test_a_traceparent_that_holds(text: str) -> None:
    parent = carried(("TraceParent", text)).parent
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.sampled) == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{GOOD}.",
        f"{GOOD}-",
        f"{GOOD}-what-the-future-will-be-like",
        f"cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like",
        f"ff-{TRACE}-{SPAN}-01",
        f".0-{TRACE}-{SPAN}-01",
        f"0.-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f"0000-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-.{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[:-1]}.-{SPAN}-01",
        f"00-{TRACE}3-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-.{SPAN[1:]}-01",
        f"00-{TRACE}-{SPAN[:-1]}.-01",
        f"00-{TRACE}-{SPAN}7-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}-.0",
        f"00-{TRACE}-{SPAN}-0.",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{'ABCDEF12' * 4}-{SPAN}-01",
        f"00-{TRACE}-{'ABCDEF12' * 2}-01",
        f"0A-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE}-{SPAN}",
        f"{GOOD},{GOOD}",
        f"{GOOD}\n",
        f"00-{'１' * 32}-{SPAN}-01",
    ],
)
def test_a_traceparent_that_is_none(text: str) -> None:
    assert tracecontext.read_traceparent(text) is None


def test_several_traceparents_are_none() -> None:
    assert carried(("traceparent", GOOD), ("traceparent", GOOD)).parent is None


def test_names_that_only_look_alike_are_not_read() -> None:
    assert carried(("trace-parent", GOOD), ("trace.parent", GOOD), ("trace-state", "foo=1")) == tracecontext.NOTHING


def test_flags_that_level_two_does_not_name_are_not_sent_on() -> None:
    parent = tracecontext.read_traceparent(f"00-{TRACE}-{SPAN}-fe")
    assert parent is not None
    assert not parent.sampled
    assert str(parent) == f"00-{TRACE}-{SPAN}-02"


KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
VALUE = "".join(map(chr, [*range(0x20, 0x2C), *range(0x2D, 0x3D), *range(0x3E, 0x7F)]))


@pytest.mark.parametrize(
    ("values", "members"),
    [
        (["foo=1", ""], {"foo": "1"}),
        (["", "foo=1"], {"foo": "1"}),
        (["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], {"foo": "1", "bar": "2", "rojo": "1", "congo": "2", "baz": "3"}),
        (["foo=1 \t , \t bar=2, \t baz=3"], {"foo": "1", "bar": "2", "baz": "3"}),
        (["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], {"foo": "1", "bar": "2", "baz": "3"}),
        ([" foo=1"], {"foo": "1"}),
        (["\tfoo=1\t"], {"foo": "1"}),
        ([f"{KEY}={VALUE}"], {KEY: VALUE}),
        ([f"{KEY}@{KEY}={VALUE}"], {f"{KEY}@{KEY}": VALUE}),
        (["foo@=1,bar=2"], {"foo@": "1", "bar": "2"}),  # level 2 lets go of the vendor's form
        (["0foo=1"], {"0foo": "1"}),
        ([f"{'z' * 256}=1"], {"z" * 256: "1"}),
        ([f"foo={'v' * 256}"], {"foo": "v" * 256}),
        ([",".join(f"bar{at:02}={at:02}" for at in range(32))], {f"bar{at:02}": f"{at:02}" for at in range(32)}),
    ],
)
def test_a_tracestate_that_holds(values: list[str], members: dict[str, str]) -> None:
    found = carried(("traceparent", GOOD), *(("tracestate", value) for value in values))
    assert dict(found.state) == members
    assert [key for key, _ in found.state] == list(members)


@pytest.mark.parametrize(
    "values",
    [
        ["foo =1"],
        ["FOO=1"],
        ["foo.bar=1"],
        ["@foo=1,bar=2"],
        ["foo=bar=baz"],
        ["foo=,bar=3"],
        ["foo"],
        ["foo=1,foo=1"],
        ["foo=1,foo=2"],
        ["foo=1", "foo=2"],
        [f"{'z' * 257}=1"],
        [f"foo={'v' * 257}"],
        ["foo=é"],
        [",".join(f"bar{at:02}={at:02}" for at in range(33))],
        [",".join(f"bar{at:02}={at:02}" for at in range(16)), ",".join(f"baz{at:02}={at:02}" for at in range(17))],
    ],
)
def test_a_malformed_tracestate_is_dropped_and_the_parent_stays(values: list[str]) -> None:
    found = carried(("traceparent", GOOD), *(("tracestate", value) for value in values))
    assert found.state == ()
    assert found.parent is not None


def test_a_tracestate_without_its_parent_is_dropped() -> None:
    assert carried(("tracestate", "foo=1")) == tracecontext.NOTHING
    assert carried(("traceparent", "none"), ("tracestate", "foo=1")).state == ()


def test_what_is_too_long_to_send_on_loses_long_members_first_and_then_the_last() -> None:
    members = (("a", "1" * 100), ("long", "2" * 200), ("b", "3" * 120), ("c", "4" * 120), ("d", "5" * 120))
    assert tracecontext.write_tracestate(members) == ",".join(
        f"{key}={value}" for key, value in members if key != "long"
    )
    short = tuple((f"k{at:02}", "v" * 30) for at in range(32))
    written = tracecontext.write_tracestate(short)
    assert len(written) <= 512
    assert tracecontext.read_tracestate([written]) == short[:14]


@pytest.mark.parametrize(
    ("values", "members"),
    [
        (["a=1"], ("a=1",)),
        (["a=1 , b = 2;meta;p=q"], ("a=1", "b = 2;meta;p=q")),
        (["a=", "b=%20"], ("a=", "b=%20")),
        (["a=1,a=2"], ("a=1", "a=2")),
        (["no equals,b=2"], ("b=2",)),
        (['a="quoted",b=2'], ("b=2",)),
        (["a=with space,b=2"], ("b=2",)),
        (["a=é,b=2"], ("b=2",)),
        (["a=1\x00,b=2"], ("b=2",)),
        (["=1", ",,", "b=2;"], ()),
        ([",".join(f"k{at}=v" for at in range(70))], tuple(f"k{at}=v" for at in range(64))),
        ([f"a={'v' * 8000}", f"b={'v' * 200}", "c=1"], (f"a={'v' * 8000}",)),
    ],
)
def test_baggage_keeps_whole_well_formed_members_within_the_limits(values: list[str], members: tuple[str, ...]) -> None:
    found = carried(*(("baggage", value) for value in values))
    assert found.baggage == members
    assert sum(map(len, found.baggage)) + max(0, len(found.baggage) - 1) <= 8192


PARENTS = st.builds(
    tracecontext.Traceparent,
    st.integers(1, 2**128 - 1).map("{:032x}".format),
    st.integers(1, 2**64 - 1).map("{:016x}".format),
    st.integers(0, 3),
)
KEYS = st.from_regex(r"[a-z0-9][a-z0-9_\-*/@]{0,10}", fullmatch=True)
VALUES = st.text(VALUE, min_size=1, max_size=12).filter(lambda text: not text.endswith(" "))
MEMBERS = st.dictionaries(KEYS, VALUES, max_size=12).map(lambda members: tuple(members.items()))


@given(PARENTS, MEMBERS, st.lists(st.from_regex(r"[a-z]{1,5}=[a-z%]{0,5}", fullmatch=True), max_size=8))
def test_what_is_written_is_read_back(
    parent: tracecontext.Traceparent, state: tracecontext.Members, bag: list[str]
) -> None:
    sent = tracecontext.Carried(parent, state, tuple(bag))
    assert carried(*tracecontext.write(sent).items()) == sent


@given(st.lists(st.tuples(st.sampled_from([b"traceparent", b"tracestate", b"baggage", b"x"]), st.binary(max_size=80))))
def test_no_bytes_of_a_caller_break_the_reader_and_what_it_takes_is_sound(headers: list[tuple[bytes, bytes]]) -> None:
    found = tracecontext.read(headers)
    assert tracecontext.read([(k.encode(), v.encode("latin-1")) for k, v in tracecontext.write(found).items()]) == found


@given(st.text(max_size=70))
def test_a_text_is_read_only_in_its_one_form(text: str) -> None:
    parent = tracecontext.read_traceparent(text)
    if parent is not None:
        assert text.strip(" \t").split("-")[1:3] == [parent.trace_id, parent.span_id]


def test_new_positions_are_sound_and_children_stay_in_the_trace() -> None:
    parent = tracecontext.start()
    assert tracecontext.read_traceparent(str(parent)) == parent
    child = tracecontext.child(parent)
    assert child.trace_id == parent.trace_id
    assert child.span_id != parent.span_id


_WRITTEN = st.from_regex(
    r"(00|01|ff)-[0-9a-f]{31}[0a-f]-[0-9a-f]{15}[0-9]-0[0-9a-f]", fullmatch=True
) | st.sampled_from(
    [GOOD, f"00-{TRACE}-{SPAN}-00", f"00-{'0' * 32}-{SPAN}-00", f"00-{TRACE}-{'0' * 16}-00", f"cc-{TRACE}-{SPAN}-00-x"]
)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"traceparent", b"tracestate", b"baggage", b"accept"]), _WRITTEN.map(str.encode)),
        max_size=4,
    )
)
def test_the_quick_look_says_unsampled_of_what_is_so_and_of_nothing_else(headers: list[tuple[bytes, bytes]]) -> None:
    parent = tracecontext.read(headers).parent
    present = any(name == b"traceparent" and value.startswith(b"00") for name, value in headers)
    said = tracecontext.unsampled(tracecontext.fields(headers))
    assert said == (parent is not None and not parent.sampled and present)
