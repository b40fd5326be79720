"""The detector shared by live streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from asr_service.audio.vad import SileroVad
from asr_service.audio.vad_batch import FrameDetector, LiveDetector, VadBatcher
from asr_service.metrics import Metrics
from asr_service.request import Samples


@pytest.fixture(scope="module")
def detector() -> FrameDetector:
    return FrameDetector()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


class _Ear:
    """What one stream was told."""

    def __init__(self, batcher: VadBatcher) -> None:
        self.samples: list[Samples] = []
        self.probabilities: list[NDArray[np.float32]] = []
        self.said: list[tuple[str, int]] = []
        self.errors: list[Exception] = []
        self.has_failed = asyncio.Event()
        self.stream: LiveDetector = batcher.new_stream(self._hear, self._fail)

    def _hear(self, samples: Samples, probabilities: NDArray[np.float32]) -> None:
        self.samples.append(samples)
        self.probabilities.append(probabilities)

    def _fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.has_failed.set()

    @property
    def n_heard(self) -> int:
        return sum(map(len, self.samples))

    def note(self, word: str) -> None:
        self.stream.after(lambda: self.said.append((word, self.n_heard)))

    async def all_told(self) -> None:
        done = asyncio.Event()
        self.stream.after(done.set)
        await asyncio.wait_for(done.wait(), 10)


def _sound(seed: int, n_samples: int) -> Samples:
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 0.5, n_samples // 1600 + 1), 1600)[:n_samples]
    return (loudness * np.sin(np.arange(n_samples) / rng.uniform(5, 40)) + rng.normal(0, 0.01, n_samples)).astype(np.float32)


async def test_streams_in_one_run_hear_what_each_would_hear_alone(
    detector: FrameDetector, executor: ThreadPoolExecutor
) -> None:
    batcher = VadBatcher(detector, executor, Metrics())
    ears = [_Ear(batcher) for _ in range(5)]
    sounds = [_sound(seed, 9000 + 700 * seed) for seed in range(5)]
    rng = np.random.default_rng(1)
    at = [0] * 5
    while any(at[index] < len(sounds[index]) for index in range(5)):
        index = int(rng.integers(5))
        step = int(rng.integers(1, 2500))
        ears[index].stream.push(sounds[index][at[index] : at[index] + step])
        at[index] += step
        if rng.random() < 0.3:
            await asyncio.sleep(0)
    for ear, sound in zip(ears, sounds, strict=True):
        await ear.all_told()
        assert np.array_equal(np.concatenate(ear.samples), sound)
        assert np.concatenate(ear.probabilities) == pytest.approx(SileroVad().new_stream().push(sound), abs=1e-4)
        assert ear.stream.n_waiting == 0


async def test_what_is_said_between_samples_stays_between_them(detector: FrameDetector, executor: ThreadPoolExecutor) -> None:
    ear = _Ear(VadBatcher(detector, executor, Metrics()))
    ear.note("first")
    ear.stream.push(_sound(0, 700))
    ear.note("second")
    ear.stream.push(_sound(1, 100_000))
    ear.note("third")
    await ear.all_told()

    assert ear.said == [("first", 0), ("second", 700), ("third", 100_700)]


async def test_less_than_a_frame_is_told_at_once(detector: FrameDetector, executor: ThreadPoolExecutor) -> None:
    ear = _Ear(VadBatcher(detector, executor, Metrics()))
    ear.stream.push(_sound(0, 500))

    assert ear.n_heard == 500


async def test_a_closed_stream_is_told_nothing(detector: FrameDetector, executor: ThreadPoolExecutor) -> None:
    batcher = VadBatcher(detector, executor, Metrics())
    closed, other = _Ear(batcher), _Ear(batcher)
    closed.stream.push(_sound(0, 2000))
    other.stream.push(_sound(0, 2000))
    closed.stream.close()
    await other.all_told()

    assert (closed.n_heard, other.n_heard) == (0, 2000)


async def test_a_failing_run_fails_the_streams_in_it_and_no_later_one(executor: ThreadPoolExecutor) -> None:
    class Broken(FrameDetector):
        is_broken = True

        def run(self, frames: Samples, state: Samples) -> tuple[NDArray[np.float32], Samples]:
            if self.is_broken:
                raise RuntimeError("no memory")
            return super().run(frames, state)

    detector = Broken()
    batcher = VadBatcher(detector, executor, Metrics())
    ear = _Ear(batcher)
    ear.stream.push(_sound(0, 2000))
    await asyncio.wait_for(ear.has_failed.wait(), 10)
    detector.is_broken = False
    later = _Ear(batcher)
    later.stream.push(_sound(0, 2000))
    await later.all_told()

    assert str(ear.errors[0]) == "no memory"
    assert later.n_heard == 2000
