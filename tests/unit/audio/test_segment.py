"""Stretches of speech out of made-up probabilities: the rules one by one, then against any input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr_service.audio.segment import Segmenter, SegmenterConfig, WholeSegmenter
from asr_service.audio.vad import FRAME_SAMPLES
from asr_service.request import Samples, Speech

FRAME_MS = 32
SHORT = SegmenterConfig(
    silence_ms=320, prefix_padding_ms=100, suffix_padding_ms=96, min_speech_ms=100, soft_max_ms=2_000, hard_max_ms=3_000
)


def frames(*runs: tuple[float, int]) -> NDArray[np.float32]:
    """Probabilities: (value, milliseconds) one after the other."""
    return np.concatenate([np.full(ms // FRAME_MS, value, np.float32) for value, ms in runs])


def numbered(n: int) -> Samples:
    """Samples that can be told apart, growing louder (2**24 are exact in float32)."""
    return np.arange(1, n + 1, dtype=np.float32)


def segmented(
    probabilities: NDArray[np.float32], config: SegmenterConfig | None = None, samples: Samples | None = None
) -> list[Speech]:
    segmenter = Segmenter(config)
    samples = numbered(len(probabilities) * FRAME_SAMPLES) if samples is None else samples
    return segmenter.feed(samples, probabilities) + segmenter.finish()


def spans(speeches: list[Speech]) -> list[tuple[int, int]]:
    """(start, end) in samples, read from the numbered samples themselves."""
    return [(int(speech.samples[0]) - 1, int(speech.samples[-1])) for speech in speeches]


def test_silence_gives_nothing() -> None:
    assert segmented(frames((0.1, 60_000))) == []


def test_speech_is_padded_on_both_sides() -> None:
    [speech] = segmented(frames((0.0, 1_600), (0.9, 1_600), (0.0, 1_600)))

    assert spans([speech]) == [((1_600 - 300) * 16, (3_200 + 200) * 16)]
    assert (speech.start_ms, speech.end_ms) == (1_300, 3_400)
    assert not speech.cut_in_speech


def test_probability_is_the_mean_over_the_stretch() -> None:
    config = SegmenterConfig(prefix_padding_ms=0, suffix_padding_ms=0)

    [speech] = segmented(frames((0.0, 1_600), (0.6, 1_600), (0.8, 1_600), (0.0, 1_600)), config)

    assert speech.speech_probability == pytest.approx(0.7, abs=1e-6)


def test_padding_does_not_reach_before_the_source() -> None:
    assert spans(segmented(frames((0.9, 960), (0.0, 960)))) == [(0, 1_160 * 16)]


def test_a_pause_shorter_than_silence_does_not_separate() -> None:
    assert len(segmented(frames((0.9, 960), (0.0, 480), (0.9, 960), (0.0, 960)))) == 1


def test_a_longer_pause_separates() -> None:
    assert len(segmented(frames((0.9, 960), (0.0, 544), (0.9, 960), (0.0, 960)))) == 2


def test_between_the_thresholds_speech_goes_on_but_does_not_start() -> None:
    assert segmented(frames((0.4, 3_200))) == []
    assert len(segmented(frames((0.9, 960), (0.4, 1_600), (0.9, 960), (0.0, 960)))) == 1


def test_a_click_is_no_speech() -> None:
    assert segmented(frames((0.0, 960), (0.9, 192), (0.0, 960))) == []
    assert segmented(frames((0.0, 960), (0.9, 192))) == []


def test_paddings_never_overlap() -> None:
    config = SegmenterConfig(silence_ms=100, prefix_padding_ms=1_000, suffix_padding_ms=200)

    first, second = spans(segmented(frames((0.9, 960), (0.0, 160), (0.9, 960), (0.0, 960)), config))

    assert first[1] == second[0]


def test_the_end_of_the_source_ends_a_stretch() -> None:
    assert spans(segmented(frames((0.0, 960), (0.9, 1_600)))) == [((960 - 300) * 16, 2_560 * 16)]


def test_the_last_frame_may_be_short() -> None:
    probabilities = frames((0.9, 1_600))
    n_samples = len(probabilities) * FRAME_SAMPLES - 200

    assert spans(segmented(probabilities, samples=numbered(n_samples))) == [(0, n_samples)]


def test_past_the_soft_limit_a_short_pause_is_enough() -> None:
    probabilities = frames((0.9, 2_240), (0.1, 96), (0.9, 1_600), (0.0, 960))

    first, second = segmented(probabilities, SHORT)

    assert not first.cut_in_speech
    assert 2_240 <= first.end_ms < 2_240 + 96
    assert spans([first])[0][1] == spans([second])[0][0]


def test_speech_without_a_pause_is_cut_at_its_quietest_frame() -> None:
    probabilities = frames((0.9, 4_480))
    samples = np.full(len(probabilities) * FRAME_SAMPLES, 0.5, np.float32)
    quiet_frame = 80  # at 2.56 s
    samples[quiet_frame * FRAME_SAMPLES : (quiet_frame + 1) * FRAME_SAMPLES] = 0.01

    first, second = segmented(probabilities, SHORT, samples)

    assert first.cut_in_speech
    assert len(first.samples) == quiet_frame * FRAME_SAMPLES + FRAME_SAMPLES // 2
    assert len(first.samples) + len(second.samples) == len(samples)
    assert not second.cut_in_speech


def test_the_rest_of_a_cut_stretch_is_kept_however_short() -> None:
    probabilities = frames((0.9, 3_040), (0.0, 960))

    speeches = segmented(probabilities, SHORT)

    assert sum(len(speech.samples) for speech in speeches) >= 3_040 * 16


@pytest.mark.parametrize("fields", [{"threshold": 0.0}, {"threshold": 1.0}, {"soft_max_ms": 60_000}, {"silence_ms": 60_000}])
def test_a_config_that_contradicts_itself_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields)).split("_")[0] if "silence_ms" not in fields else "hard_max_ms"):
        SegmenterConfig(**fields)  # type: ignore[arg-type]


RUNS = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.95]), st.integers(1, 60)), max_size=12)


def of_runs(runs: list[tuple[float, int]]) -> NDArray[np.float32]:
    return np.array([value for value, n in runs for _ in range(n)], np.float32)


@given(runs=RUNS, n_short=st.integers(0, FRAME_SAMPLES - 1), cuts=st.lists(st.integers(0, 400_000), max_size=20))
def test_how_the_source_is_cut_into_blocks_changes_nothing(
    runs: list[tuple[float, int]], n_short: int, cuts: list[int]
) -> None:
    probabilities = of_runs(runs)
    samples = numbered(max(0, len(probabilities) * FRAME_SAMPLES - n_short))
    segmenter, in_blocks, n_given = Segmenter(SHORT), [], 0
    edges = [0, *sorted(cut for cut in cuts if cut < len(samples)), len(samples)]
    for start, end in itertools.pairwise(edges):
        n_complete = end // FRAME_SAMPLES
        in_blocks += segmenter.feed(samples[start:end], probabilities[n_given:n_complete])
        n_given = n_complete
    in_blocks += segmenter.feed(samples[:0], probabilities[n_given:]) + segmenter.finish()

    at_once = segmented(probabilities, SHORT, samples)

    assert spans(in_blocks) == spans(at_once)
    assert [(s.start_ms, s.cut_in_speech) for s in in_blocks] == [(s.start_ms, s.cut_in_speech) for s in at_once]
    assert [s.speech_probability for s in in_blocks] == pytest.approx([s.speech_probability for s in at_once])


@given(runs=RUNS)
def test_stretches_are_in_order_bounded_and_cover_all_speech(runs: list[tuple[float, int]]) -> None:
    probabilities = of_runs(runs)

    covered = spans(speeches := segmented(probabilities, SHORT))

    for (_, end), (start, _) in itertools.pairwise(covered):
        assert end <= start
    for speech, (start, end) in zip(speeches, covered, strict=True):
        assert end - start == len(speech.samples) <= SHORT.hard_max_ms * 16
        assert np.array_equal(speech.samples, numbered(end)[start:])
    is_covered = np.zeros(len(probabilities) * FRAME_SAMPLES, bool)
    for start, end in covered:
        is_covered[start:end] = True
    for first, n in loud_runs(probabilities):
        if n * FRAME_MS >= SHORT.min_speech_ms:
            assert is_covered[first * FRAME_SAMPLES : (first + n) * FRAME_SAMPLES].all()


def loud_runs(probabilities: NDArray[np.float32]) -> list[tuple[int, int]]:
    """(first frame, frames) of every run of loud frames."""
    runs, at = [], 0
    for is_loud, group in itertools.groupby((probabilities >= SHORT.threshold).tolist()):
        n = len(list(group))
        if is_loud:
            runs.append((at, n))
        at += n
    return runs


@pytest.mark.parametrize("value", [0.0, 0.4, 0.9])
def test_an_hour_takes_no_more_memory_than_a_minute(value: float) -> None:
    segmenter, block = Segmenter(), np.zeros(30 * 16_000, np.float32)
    probabilities = np.full(len(block) // FRAME_SAMPLES, value, np.float32)
    sizes = []

    for _ in range(120):
        segmenter.feed(block[: len(probabilities) * FRAME_SAMPLES], probabilities)
        sizes.append(segmenter._buffer._data.nbytes)

    assert max(sizes) < 4 * 4 * 16_000 * 90


@settings(max_examples=50)
@given(n=st.integers(0, 200_000), cuts=st.lists(st.integers(0, 200_000), max_size=10), seed=st.integers(0, 5))
def test_without_detection_every_sample_is_in_one_piece(n: int, cuts: list[int], seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    segmenter = WholeSegmenter(soft_max_ms=2_000)

    speeches = [speech for block in np.split(samples, sorted(cuts)) for speech in segmenter.feed(block)] + segmenter.finish()
    again = WholeSegmenter(soft_max_ms=2_000)
    at_once = again.feed(samples) + again.finish()

    assert [len(speech.samples) for speech in speeches] == [len(speech.samples) for speech in at_once]
    assert np.array_equal(np.concatenate([samples[:0], *(speech.samples for speech in speeches)]), samples)
    assert all(0 < len(speech.samples) <= 32_000 and speech.speech_probability is None for speech in speeches)
    assert all(second.start_ms >= first.end_ms for first, second in itertools.pairwise(speeches))


def test_without_detection_pieces_are_cut_where_it_is_quiet() -> None:
    samples = np.full(60_000, 0.5, np.float32)
    samples[25_600:26_112] = 0.0

    first, *_ = WholeSegmenter(soft_max_ms=2_000).feed(samples)

    assert 25_600 <= len(first.samples) <= 26_112
