"""One run of the detector for the frames of all live streams.

The batched one-frame export of Silero's network takes a frame of each stream, with the stream's state, and gives the
probabilities that the whole-sequence export gives. While a run computes, what comes in gathers for the next one: the busier the
service, the larger the batches, without a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from asr_service.audio.vad import CONTEXT_SAMPLES, FRAME_SAMPLES, VadModelMissing, find_model, session_options
from asr_service.metrics import Metrics
from asr_service.request import SAMPLE_RATE, Samples

_MODEL_FILE = "silero_vad.onnx"
_MAX_FRAMES_PER_RUN = 32  # of one stream: about a second
_NO_FRAMES: NDArray[np.float32] = np.zeros(0, np.float32)

Tell = Callable[[Samples, NDArray[np.float32]], None]
"""Samples (n,) in the order they were pushed, and the probabilities (m,) of the frames of 512 that they completed."""


class FrameDetector:
    """The network, a frame of each of several streams at a time."""

    def __init__(self, model_path: Path | None = None) -> None:
        """Raises VadModelMissing."""
        path = find_model(_MODEL_FILE) if model_path is None else model_path
        if not path.is_file():
            raise VadModelMissing(f"voice activity detection: {path} does not exist")
        self._session = onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
        self._rate = np.array(SAMPLE_RATE, np.int64)

    def run(self, frames: Samples, state: Samples) -> tuple[NDArray[np.float32], Samples]:
        """Frames (n, 576) and states (2, n, 128) to probabilities (n,) and the states after them."""
        probabilities, state = self._session.run(None, {"input": frames, "state": state, "sr": self._rate})
        return probabilities[:, 0], state


class LiveDetector:
    """One stream's place at the batcher. All methods are for the event loop; `tell` is called on it, never from inside `push`
    of the same stream unless everything before was told."""

    def __init__(self, batcher: VadBatcher, tell: Tell, fail: Callable[[Exception], None]) -> None:
        self._batcher = batcher
        self._tell = tell
        self.fail = fail
        self._state: Samples = np.zeros((2, 128), np.float32)
        self._held: Samples = np.zeros(CONTEXT_SAMPLES, np.float32)  # the context, then samples of an unfinished frame
        self._waiting: deque[Samples | Callable[[], None]] = deque()
        self._n_waiting = 0
        self._is_away = False  # in a run
        self._is_closed = False

    @property
    def n_waiting(self) -> int:
        """Samples that were pushed and not told of yet."""
        return self._n_waiting

    def push(self, samples: Samples) -> None:
        """Takes any number of samples; they will be told with their probabilities."""
        self._waiting.append(samples)
        self._n_waiting += len(samples)
        self._go_on()

    def after(self, act: Callable[[], None]) -> None:
        """`act` is called when everything pushed before was told, and before anything pushed later is."""
        self._waiting.append(act)
        self._go_on()

    def close(self) -> None:
        """Nothing is told any more."""
        self._is_closed = True
        self._waiting.clear()
        self._n_waiting = 0

    def _go_on(self) -> None:
        """Does what needs no run; asks for one when a frame is complete."""
        while self._waiting and not self._is_away:
            first = self._waiting[0]
            if callable(first):
                self._waiting.popleft()
                first()
            elif len(self._held) - CONTEXT_SAMPLES + len(first) < FRAME_SAMPLES:
                self._waiting.popleft()
                self._n_waiting -= len(first)
                self._held = np.concatenate((self._held, first))
                self._tell(first, _NO_FRAMES)
            else:
                self._is_away = True
                self._batcher.enlist(self)

    def take(self) -> tuple[Samples, Samples]:
        """For the batcher: samples to be told, and the frames (m, 576) that they complete."""
        parts, n_taken, room = [], 0, _MAX_FRAMES_PER_RUN * FRAME_SAMPLES - (len(self._held) - CONTEXT_SAMPLES)
        while self._waiting and n_taken < room and not callable(first := self._waiting[0]):
            part = first[: room - n_taken]
            if len(part) == len(first):
                self._waiting.popleft()
            else:
                self._waiting[0] = first[len(part) :]
            parts.append(part)
            n_taken += len(part)
        self._n_waiting -= n_taken
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        held = np.concatenate((self._held, samples))
        n_frames = (len(held) - CONTEXT_SAMPLES) // FRAME_SAMPLES
        self._held = held[n_frames * FRAME_SAMPLES :].copy()
        rows = np.arange(n_frames)[:, None] * FRAME_SAMPLES + np.arange(CONTEXT_SAMPLES + FRAME_SAMPLES)[None, :]
        return samples, held[rows]

    @property
    def state(self) -> Samples:
        return self._state

    def told(self, samples: Samples, probabilities: NDArray[np.float32], state: Samples) -> None:
        """For the batcher: what came of `take`."""
        self._is_away = False
        if self._is_closed:
            return
        self._state = state
        self._tell(samples, probabilities)
        if not self._is_closed:
            self._go_on()

    def lost(self, error: Exception) -> None:
        """For the batcher: the run failed."""
        self._is_away = False
        if not self._is_closed:
            self.close()
            self.fail(error)


class VadBatcher:
    """Runs the detector in `executor`, one run at a time, for all streams that have a frame. For one event loop."""

    def __init__(self, detector: FrameDetector, executor: Executor, metrics: Metrics) -> None:
        self._detector = detector
        self._executor = executor
        self._metrics = metrics
        self._enlisted: list[LiveDetector] = []
        self._is_running = False

    def new_stream(self, tell: Tell, fail: Callable[[Exception], None]) -> LiveDetector:
        """`fail` is called instead of `tell` when a run failed; the stream is closed then."""
        return LiveDetector(self, tell, fail)

    def enlist(self, stream: LiveDetector) -> None:
        """The stream has a frame."""
        self._enlisted.append(stream)
        if not self._is_running:
            # Not at once: packets that the loop has in hand already come into the same run.
            self._is_running = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        streams, self._enlisted = self._enlisted, []
        taken = [stream.take() for stream in streams]
        states = [stream.state for stream in streams]
        running = asyncio.get_running_loop().run_in_executor(
            self._executor, detect, self._detector, [frames for _, frames in taken], states
        )
        running.add_done_callback(lambda done: self._ran(streams, [samples for samples, _ in taken], done))

    def _ran(
        self, streams: list[LiveDetector], samples: list[Samples], done: asyncio.Future[list[tuple[Samples, Samples]]]
    ) -> None:
        self._is_running = False
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            return
        if error is not None:
            for stream in streams:
                stream.lost(error if isinstance(error, Exception) else RuntimeError(str(error)))
        else:
            self._metrics.vad_streams_per_run.observe(len(streams))
            for stream, told, (probabilities, state) in zip(streams, samples, done.result(), strict=True):
                stream.told(told, probabilities, state)
        if self._enlisted and not self._is_running:
            self._is_running = True
            self._run()


def detect(
    detector: FrameDetector, frames: Sequence[Samples], states: Sequence[Samples]
) -> list[tuple[NDArray[np.float32], Samples]]:
    """Each stream's frames (m, 576) and state (2, 128) to its probabilities (m,) and the state after them."""
    state = np.stack(states, axis=1)
    found = [np.zeros(len(of_stream), np.float32) for of_stream in frames]
    for index in range(max(len(of_stream) for of_stream in frames)):
        rows = [row for row, of_stream in enumerate(frames) if index < len(of_stream)]
        probabilities, after = detector.run(np.stack([frames[row][index] for row in rows]), state[:, rows])
        state[:, rows] = after
        for row, probability in zip(rows, probabilities, strict=True):
            found[row][index] = probability
    return [(probabilities, state[:, row].copy()) for row, probabilities in enumerate(found)]
