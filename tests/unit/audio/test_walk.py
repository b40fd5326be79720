from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.audio.formats import CONTAINERS
from asr_service.audio.sniff import sniff
from asr_service.audio.walk import Walk
from tests.synth import RECIPES, make

FILES = {name: make(name, 0.5) for name in RECIPES if name != "mp3"}


def walked(data: bytes, cuts: list[int]) -> Walk:
    kind = CONTAINERS[sniff(data)]
    assert kind.walk is not None
    walk = kind.walk()
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        walk.feed(data[start:end])
    return walk


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_misses_nothing(name: str) -> None:
    walk = walked(FILES[name], [])

    assert walk.missing is None
    assert not walk.is_broken


@given(name=st.sampled_from(sorted(FILES)), cuts=st.lists(st.integers(0, 1 << 20), max_size=30), n_missing=st.integers(0, 400))
def test_how_the_bytes_come_changes_nothing(name: str, cuts: list[int], n_missing: int) -> None:
    data = FILES[name]
    data = data[: len(data) - n_missing]
    at_once, in_pieces = walked(data, []), walked(data, cuts)

    assert (at_once.missing, at_once.is_broken, at_once.position) == (
        in_pieces.missing,
        in_pieces.is_broken,
        in_pieces.position,
    )


def test_a_bad_checksum_of_an_ogg_page_is_seen() -> None:
    data = bytearray(FILES["ogg-opus"])
    data[-1] ^= 1

    assert walked(bytes(data), []).is_broken
