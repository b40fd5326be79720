"""What the service knows of a stretch that is listened to in a pocketsphinx worker; SphinxListener is the other side.

The worker gets samples once. The service knows from the answers which of them it has taken in for sure. An aborted job may have
taken in more, so the next one brings all that is not known for sure, and the worker skips what it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from asr_service.engine.runner import RunnerAborted
from asr_service.engines.pcm import BYTES_PER_SAMPLE, to_int16
from asr_service.request import Hypothesis, Samples, Work

if TYPE_CHECKING:
    from asr_service.engines.pocketsphinx import PocketsphinxRunner

_NOTHING: Samples = np.zeros(0, np.float32)


class PocketsphinxEar:
    """Implements Ear: place `index` in the worker of `runner`, for one stretch."""

    def __init__(self, runner: PocketsphinxRunner, index: int, give_back: Callable[[int], None]) -> None:
        self._runner = runner
        self._index = index
        self._give_back = give_back
        self._is_closed = False
        self._life = 0  # of the process that has heard
        self._given: Samples = _NOTHING  # whatever the worker may have taken in is the beginning of these
        self._n_heard = 0

    @property
    def n_heard(self) -> int:
        return self._n_heard if self._life == self._runner.life else 0

    async def hear(self, work: Work) -> Hypothesis:
        samples = work.speech.samples
        is_new = self._life != self._runner.life or not _begins_with(samples, self._given)
        if is_new:
            self._n_heard = 0
        self._life, self._given = self._runner.life, samples
        fields = {"ear": self._index, "is_new": is_new, "start": self._n_heard * BYTES_PER_SAMPLE}
        try:
            result = await self._runner.listen(fields, to_int16(samples[self._n_heard :]))
        except RunnerAborted:
            raise
        except BaseException:
            self._forget()
            raise
        self._n_heard = result["heard"] // BYTES_PER_SAMPLE
        return self._runner.to_hypothesis(result, work.speech)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._forget()
            self._give_back(self._index)

    def _forget(self) -> None:
        self._life, self._given, self._n_heard = 0, _NOTHING, 0


def _begins_with(samples: Samples, beginning: Samples) -> bool:
    return len(samples) >= len(beginning) and np.array_equal(samples[: len(beginning)], beginning)
