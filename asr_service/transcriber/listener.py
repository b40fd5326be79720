"""Which stretches of a source reach the recogniser: those with speech in them, or everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from time import monotonic
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asr_service.audio.segment import Segmenter, SegmenterConfig, WholeSegmenter
from asr_service.audio.vad import FRAME_SAMPLES, SileroVad
from asr_service.request import Samples, Speech, ms_to_samples
from asr_service.transcriber.job import VoiceActivityOptions

_BEFORE_MS = 3_000
_PAUSE = 0.01  # of the power before: 20 dB below


@dataclass(frozen=True, slots=True)
class StretchCaps:
    """How long a stretch may become: from `soft_ms` on it is cut at the next short pause, at `hard_ms` anyhow.

    What comes after a cut in speech is heard from `overlap_ms` earlier on, by so much more than these; 0: from the cut on.
    """

    soft_ms: int = 30_000
    hard_ms: int = 60_000
    overlap_ms: int = 1_500


class Listener(Protocol):
    """Takes the samples of one source block by block and gives the stretches that they complete."""

    spent_s: float

    async def hear(self, block: Samples) -> list[Speech]: ...

    async def finish(self) -> list[Speech]: ...


class SpeechListener:
    """Stretches with speech in them. The detector runs in `executor`, off the event loop."""

    def __init__(self, vad: SileroVad, options: VoiceActivityOptions, executor: Executor, caps: StretchCaps) -> None:
        self._stream = vad.new_stream()
        self._executor = executor
        self._segmenter = Segmenter(
            SegmenterConfig(
                options.threshold,
                silence_ms=options.silence_ms,
                prefix_padding_ms=options.prefix_padding_ms,
                soft_max_ms=caps.soft_ms,
                hard_max_ms=caps.hard_ms,
            )
        )
        self.spent_s = 0.0

    async def hear(self, block: Samples) -> list[Speech]:
        return self._segmenter.feed(block, await self._detect(lambda: self._stream.push(block)))

    async def finish(self) -> list[Speech]:
        last = self._segmenter.feed(np.zeros(0, np.float32), await self._detect(self._stream.finish))
        return last + self._segmenter.finish()

    async def _detect(self, run: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        started_s = monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, run)
        finally:
            self.spent_s += monotonic() - started_s


class WholeListener:
    """Everything, in pieces of at most `caps.soft_ms`. Pieces that do not end in a pause are marked as cut in speech."""

    def __init__(self, caps: StretchCaps) -> None:
        self._segmenter = WholeSegmenter(caps.soft_ms)
        self.spent_s = 0.0

    async def hear(self, block: Samples) -> list[Speech]:
        return [replace(piece, cut_in_speech=_ends_aloud(piece.samples)) for piece in self._segmenter.feed(block)]

    async def finish(self) -> list[Speech]:
        return self._segmenter.finish()


def _ends_aloud(samples: Samples) -> bool:
    """Whether the end, which is the quietest place around, is not much quieter than what comes before it."""
    end, before = samples[-FRAME_SAMPLES // 2 :], samples[-ms_to_samples(_BEFORE_MS) :]
    return bool(_power(end) > _PAUSE * _power(before))


def _power(samples: Samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
