"""The fake recogniser: what it says follows from the audio's length."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from asr_service.engine.fake import FakeControls, FakeRunner, fake_hypothesis, fake_words
from asr_service.languages import ENGLISH, Language
from asr_service.request import RecognitionOptions, Speech
from tests.unit.engine.works import Works

GERMAN = Language("de", "German")


@pytest.mark.parametrize("n_samples", [0, 1, 100, 6_400, 16_000, 163_840])
def test_words_are_in_order_have_a_length_and_stay_inside_the_stretch(n_samples: int) -> None:
    speech = Speech(np.zeros(n_samples, np.float32), start_ms=1000)
    words = fake_words(speech)

    assert all(word.start_ms < word.end_ms for word in words)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(words))
    assert words[0].start_ms == 1000
    assert words[-1].end_ms <= max(speech.end_ms, 1001)


@pytest.mark.parametrize(
    ("options", "language"),
    [
        (RecognitionOptions(), ENGLISH),
        (RecognitionOptions(language=GERMAN), GERMAN),
        (RecognitionOptions(candidate_languages=(GERMAN,)), GERMAN),
    ],
)
def test_the_language_is_the_forced_one_or_the_first_candidate_or_english(
    options: RecognitionOptions, language: Language
) -> None:
    assert fake_hypothesis(Speech(np.zeros(16_000, np.float32), 0), options).language == language


def test_alternatives_are_other_texts_and_fewer_than_asked_for_by_the_best_one() -> None:
    answer = fake_hypothesis(Speech(np.zeros(16_000, np.float32), 0), RecognitionOptions(max_alternatives=3))

    texts = {text for text, _ in answer.alternatives}
    assert len(texts) == 2
    assert answer.text not in texts


async def test_computing_takes_the_time_that_the_injected_sleep_is_told() -> None:
    slept_s = []

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)

    runner = FakeRunner(FakeControls(s_per_audio_s=0.5, sleep=sleep))
    await runner.start()
    await runner.run(Works().make(np.zeros(32_000, np.float32)))

    assert slept_s == [1.0]
