"""The detector must hear speech and nothing else: a deaf one passes every test with silence alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.audio.decode import decode
from asr_service.audio.limits import AudioLimits
from asr_service.audio.source import SourceFormat
from asr_service.audio.vad import FRAME_SAMPLES, SileroVad, VadModelMissing, find_model
from asr_service.request import Samples
from tests.real_audio import CLIPS, real_clip
from tests.synth import sweep

VAD = SileroVad()


def heard(samples: Samples) -> Samples:
    stream = VAD.new_stream()
    return np.concatenate((stream.push(samples), stream.finish()))


def clip(name: str) -> Samples:
    limits = AudioLimits(max_bytes=10_000_000, max_seconds=60.0, max_channels=8, spool_bytes=0)
    with real_clip(name).open("rb") as file:
        return np.concatenate(list(decode(file, SourceFormat(), limits)))


@pytest.mark.parametrize("name", [name for name in CLIPS if name != "jfk.flac"])
def test_real_speech_is_heard(name: str) -> None:
    assert np.mean(heard(clip(name)) >= 0.5) >= 0.8


def test_a_speech_with_long_pauses_is_heard_between_them() -> None:
    # A third of this clip is the pauses of a public speech, so 0.8 of all frames cannot be (ffmpeg's resampling and the
    # one-frame network find 0.68 as well). Of the frames that are louder than its hiss, almost all must be heard.
    samples = clip("jfk.flac")
    whole = samples[: len(samples) - len(samples) % FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    is_loud = np.sqrt(np.mean(whole**2, axis=1)) > 0.02

    is_heard = heard(samples)[: len(whole)] >= 0.5

    assert np.mean(is_loud) > 0.5
    assert np.mean(is_heard[is_loud]) >= 0.9
    assert np.mean(is_heard) >= 0.6


def test_four_in_five_frames_of_all_real_clips_are_heard() -> None:
    assert np.mean(np.concatenate([heard(clip(name)) for name in CLIPS]) >= 0.5) >= 0.8


def test_silence_is_not_heard() -> None:
    assert heard(np.zeros(160_000, np.float32)).max() < 0.1


@pytest.mark.parametrize("level", [0.001, 0.03, 0.3])
def test_white_noise_is_not_heard(level: float) -> None:
    noise = np.random.default_rng(5).normal(0.0, level, 160_000).astype(np.float32)

    assert np.mean(heard(noise) >= 0.5) < 0.02


def test_the_sequence_network_agrees_with_the_one_frame_network() -> None:
    rng = np.random.default_rng(6)
    samples = np.concatenate((sweep(3.0), rng.normal(0, 0.1, 20_000).astype(np.float32), np.zeros(9_000, np.float32)))
    samples = samples[: len(samples) - len(samples) % FRAME_SAMPLES]
    session = onnxruntime.InferenceSession(str(find_model().with_name("silero_vad.onnx")), providers=["CPUExecutionProvider"])
    state, context, one_by_one = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for frame in samples.reshape(-1, FRAME_SAMPLES):
        inputs = {"input": np.concatenate((context, frame))[None], "state": state, "sr": np.array(16_000)}
        probability, state = session.run(None, inputs)
        one_by_one.append(probability[0, 0])
        context = frame[-64:]

    stream = VAD.new_stream()
    in_blocks = np.concatenate([stream.push(block) for block in np.array_split(samples, 7)])

    assert in_blocks == pytest.approx(np.array(one_by_one), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=12))
def test_how_samples_come_changes_nothing(cuts: list[int]) -> None:
    samples = sweep(1.25)
    stream = VAD.new_stream()

    parts = [stream.push(part) for part in np.split(samples, sorted(cuts))] + [stream.finish()]

    assert np.concatenate(parts) == pytest.approx(heard(samples), abs=1e-4)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2), (16_000, 32)])
def test_every_begun_frame_gets_one_probability(n_samples: int, n_frames: int) -> None:
    assert len(heard(np.zeros(n_samples, np.float32))) == n_frames


def test_streams_in_threads_do_not_disturb_each_other() -> None:
    samples = [sweep(2.0), np.zeros(32_000, np.float32), sweep(2.0)[::-1].copy()] * 3

    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(heard, samples))

    for probabilities, alone in zip(at_once, map(heard, samples), strict=True):
        assert probabilities == pytest.approx(alone, abs=1e-5)


def test_a_missing_model_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(VadModelMissing, match="pip install --no-deps silero-vad"):
        SileroVad(tmp_path / "none.onnx")
