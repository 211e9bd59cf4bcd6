"""Digests of sources: the same files, the same digest; anything else, another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import digests

FILES = st.dictionaries(st.text("abc/.", min_size=1, max_size=6), st.binary(max_size=8), max_size=5)


@given(FILES, FILES)
def test_digests_are_equal_exactly_when_the_files_are(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    same = digests.source_digest(one.items()) == digests.source_digest(reversed(other.items()))
    assert same == (one == other)


def test_a_digest_names_its_folder() -> None:
    digest = digests.source_digest([("a.py", b"")])
    assert digests.folder_name(digest) == digest.removeprefix("sha256:")
    for wrong in ("", "sha256:", "a" * 64, "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:../" + "a" * 61):
        with pytest.raises(ValueError, match="not a source digest"):
            digests.folder_name(wrong)
