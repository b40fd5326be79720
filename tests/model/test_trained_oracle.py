"""The trained checkpoint against the stock package: real words, which stop by themselves."""

from __future__ import annotations

import pytest

from asr_service.languages import LANGUAGES
from asr_service.request import RecognitionOptions, Samples
from tests.model.conftest import SMALL, Pair, make_pair
from tests.model.driving import make_work
from tests.model.sounds import Spoken, joined, spoken_clips
from tests.model.stock import NearTies


@pytest.fixture(scope="module")
def clips() -> list[Spoken]:
    return spoken_clips("clean", "unseen", "repeats", "no-speech")


@pytest.fixture(scope="module")
def long_clips(clips: list[Spoken]) -> list[Samples]:
    return [joined(clips[start : start + 4]) for start in (0, 4, 12)]


def test_each_clip_has_the_stock_tokens(small: Pair, near_ties: NearTies, clips: list[Spoken]) -> None:
    for clip_ in clips[::2]:
        near_ties.compare(small.driver.alone(make_work(clip_.samples)), small.greedy(clip_.samples))


def test_so_has_each_long_one(small: Pair, near_ties: NearTies, long_clips: list[Samples]) -> None:
    for samples in long_clips:
        near_ties.compare(small.driver.alone(make_work(samples)), small.greedy(samples))


def test_all_of_them_in_any_order_have_them_too(
    small: Pair, near_ties: NearTies, clips: list[Spoken], long_clips: list[Samples]
) -> None:
    sounds = [*(clip_.samples for clip_ in clips[1::3]), *long_clips[:2]]

    replies = small.driver.in_any_order([make_work(samples, uid) for uid, samples in enumerate(sounds)], seed=3)

    for samples, reply in zip(sounds, replies, strict=True):
        near_ties.compare(reply.ids, small.greedy(samples))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_reads_the_same_words(small: Pair, clips: list[Spoken], dtype: str) -> None:
    half = make_pair(SMALL, stops=True, dtype=dtype, stock=small.stock)
    clean = [make_work(clip_.samples, uid) for uid, clip_ in enumerate(clips[:24:2])]

    whole_words = [reply.ids for reply in small.driver.replies(clean)]
    half_words = [reply.ids for reply in half.driver.replies(clean)]

    assert sum(a == b for a, b in zip(whole_words, half_words, strict=True)) >= len(clean) - 1


def test_context_and_language_are_told_as_the_stock_package_tells_them(small: Pair, near_ties: NearTies) -> None:
    spoken = spoken_clips("clean")[0]
    language = next(language for language in LANGUAGES if language.name == spoken.language)
    work = make_work(spoken.samples, options=RecognitionOptions(language=language, context="open the door"))

    ours = small.driver.alone(work)

    stops = sorted(small.config.stop_ids)
    stock = small.stock.greedy(spoken.samples, 64, stops, context="open the door", language=language.name)
    near_ties.compare(ours, stock)
