"""The embedded engine's alignment of a text that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr_service.engines.pcm import to_int16
from asr_service.engines.pocketsphinx_decoder import SphinxDecoder
from tests.unit.engines.test_pocketsphinx import read

SPEECH = Path(__file__).parents[2] / "data/speech"
CLIPS = ["thanks", "umbrella", "window"]


@pytest.fixture(scope="module")
def decoder() -> SphinxDecoder:
    return SphinxDecoder()


def nothing() -> None:
    """Between blocks."""


@pytest.mark.parametrize("name", CLIPS)
def test_a_known_text_is_where_it_is_heard(decoder: SphinxDecoder, name: str) -> None:
    pcm, words = to_int16(read(SPEECH / f"{name}.flac")), (SPEECH / f"{name}.txt").read_text().split()
    heard = decoder.decode(pcm, 1, nothing)
    spans = decoder.align(pcm, words, nothing)

    assert None not in spans
    assert heard["text"].split() == words
    off = [abs(span[0] - word[1]) for span, word in zip(spans, heard["words"], strict=True) if span is not None]
    assert np.median(off) <= 30


def test_what_is_recognised_does_not_depend_on_what_was_aligned(decoder: SphinxDecoder) -> None:
    pcm = to_int16(read(SPEECH / "thanks.flac"))
    before = decoder.decode(pcm, 3, nothing)
    decoder.align(pcm, ["thank", "you"], nothing)
    assert decoder.decode(pcm, 3, nothing) == before


def test_words_that_it_does_not_know_have_no_times(decoder: SphinxDecoder) -> None:
    pcm = to_int16(read(SPEECH / "thanks.flac"))
    words = (SPEECH / "thanks.txt").read_text().split()
    spans = decoder.align(pcm, [*words, "xyzzyq"], nothing)
    assert spans[-1] is None
    assert None not in spans[:-1]
    assert decoder.align(pcm, ["xyzzyq"], nothing) == [None]


def test_a_text_that_does_not_fit_has_no_times(decoder: SphinxDecoder) -> None:
    pcm = to_int16(read(SPEECH / "thanks.flac"))[:32_000]
    words = ["good", "morning", "to", "everyone", "in", "the", "whole", "wide", "world"] * 4
    assert decoder.align(pcm, words, nothing) == [None] * len(words)
    assert decoder.align(b"", ["hello"], nothing) == [None]


def test_it_can_be_interrupted(decoder: SphinxDecoder) -> None:
    pcm = to_int16(read(SPEECH / "thanks.flac"))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoder.align(pcm, ["thank", "you"], stop)
    assert decoder.decode(pcm, 1, nothing)["text"]
