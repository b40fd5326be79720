"""The embedded engine on real speech: what it reads, and that segments do not influence each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from asr_service.engine.protocol import Engine
from asr_service.engines.pocketsphinx import pocketsphinx_engine
from asr_service.engines.pocketsphinx_decoder import SphinxDecoder
from asr_service.languages import ENGLISH
from asr_service.metrics import Metrics
from asr_service.request import RecognitionOptions, Samples, Speech, Work
from tests.real_audio import CLIPS, real_clip, word_errors
from tests.unit.engine.works import Works

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "tests/data/sample.flac"
SAMPLE_TEXT = "the quick brown fox jumps over the lazy dog and the weather today is sunny and warm"


def read(path: Path) -> Samples:
    resampler = av.AudioResampler("s16", "mono", 16_000)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames]).astype(np.float32) / np.float32(32768.0)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    chosen = pocketsphinx_engine("a test", slots=1, queue_capacity=8, idle_timeout_s=0.0, metrics=Metrics())
    await chosen.start()
    yield chosen
    await chosen.stop()


@pytest.fixture(scope="module")
def sample() -> Samples:
    return read(SAMPLE)


async def test_the_sample_is_read_without_error_and_the_same_after_other_audio(engine: Engine, sample: Samples) -> None:
    works = Works()
    noise = np.random.default_rng(0).normal(0.0, 0.2, 32_000).astype(np.float32)
    first = await engine.recognize(works.make(sample))
    await engine.recognize(works.make(noise))
    await engine.recognize(works.make(sample[:40_000] * 0.1))
    again = await engine.recognize(works.make(sample))

    assert first.text == SAMPLE_TEXT
    assert (again.text, again.words, again.confidence) == (first.text, first.words, first.confidence)
    assert first.language == ENGLISH


async def test_words_are_clean_in_order_and_inside_the_stretch(engine: Engine, sample: Samples) -> None:
    work = Works().make(sample, options=RecognitionOptions(max_alternatives=3))
    speech = Speech(sample, start_ms=5000)
    answer = await engine.recognize(Work(work.uid, speech, work.options, work.priority, work.arrival_s))

    assert [word.text for word in answer.words] == SAMPLE_TEXT.split()
    assert all(word.start_ms < word.end_ms for word in answer.words)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(answer.words))
    assert answer.words[0].start_ms >= speech.start_ms
    assert answer.words[-1].end_ms <= speech.end_ms
    assert all(word.confidence is not None and 0.0 <= word.confidence <= 1.0 for word in answer.words)
    assert answer.confidence is not None
    assert len({answer.text, *(text for text, _ in answer.alternatives)}) == 3


@pytest.mark.parametrize("n_samples", [0, 1, 409, 799, 800, 1600])
async def test_almost_nothing_is_answered_with_no_words(engine: Engine, n_samples: int) -> None:
    answer = await engine.recognize(Works().make(np.zeros(n_samples, np.float32)))

    assert (answer.text, answer.words, answer.confidence) == ("", (), None)


async def test_audio_beyond_full_scale_is_turned_down_and_not_clipped(engine: Engine, sample: Samples) -> None:
    assert (await engine.recognize(Works().make(sample * 8.0))).text == SAMPLE_TEXT


def test_blocks_give_the_text_of_one_whole_call(sample: Samples) -> None:
    pcm = (sample * 32767).round().astype("<i2").tobytes()
    decoder = SphinxDecoder()
    blocks = []
    in_blocks = decoder.decode(pcm, 1, lambda: blocks.append(1))
    whole = decoder._decoder
    whole.reinit_feat()
    whole.set_cmn(decoder._initial_mean)
    whole.start_utt()
    whole.process_raw(pcm, False, True)
    whole.end_utt()

    assert len(blocks) > 30
    assert in_blocks["text"] == whole.hyp().hypstr


def test_a_decoder_is_as_good_as_new_after_it_was_stopped_in_the_middle(sample: Samples) -> None:
    class StopNowError(Exception):
        pass

    def stop_at_the_tenth() -> None:
        blocks.append(1)
        if len(blocks) == 10:
            raise StopNowError

    pcm = (sample * 32767).round().astype("<i2").tobytes()
    decoder = SphinxDecoder()
    blocks: list[int] = []
    with pytest.raises(StopNowError):
        decoder.decode(pcm, 1, stop_at_the_tenth)

    assert decoder.decode(pcm, 1, lambda: None)["text"] == SAMPLE_TEXT


async def test_real_speech_comes_back_as_plausible_english(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    works = Works()
    answers = await asyncio.gather(*(engine.recognize(works.make(read(real_clip(name)))) for name in CLIPS))
    texts = [answer.text.replace("mr ", "mister ") for answer in answers]
    counts = [word_errors(said, heard) for said, heard in zip(CLIPS.values(), texts, strict=True)]
    n_errors, n_words = (sum(column) for column in zip(*counts, strict=True))
    with capsys.disabled():
        print(f"\npocketsphinx on {len(counts)} real clips: WER {n_errors / n_words:.0%} ({n_errors} errors)")  # noqa: T201

    assert n_errors / n_words < 0.4
