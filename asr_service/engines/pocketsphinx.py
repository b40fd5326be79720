"""The embedded engine: pocketsphinx in worker processes, one per slot.

Its binding holds the GIL for a whole call, so it decodes in processes of their own; see pocketsphinx_worker for what goes
through the pipes. This module does not import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from asr_service.decoding.units import cut_units
from asr_service.decoding.word_times import settle_times
from asr_service.engine.protocol import EngineFailed, EngineInfo, Feature
from asr_service.engine.slots import SlotEngine
from asr_service.engines.frames import Frame
from asr_service.engines.pcm import to_int16
from asr_service.engines.pocketsphinx_ear import PocketsphinxEar
from asr_service.engines.worker_process import WorkerRunner
from asr_service.languages import ENGLISH
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Speech, Word, Work

_WORKER = "asr_service.engines.pocketsphinx_worker"
_ABORT_GRACE_S = 0.1  # longer than most blocks; the last pass over a long segment takes seconds and is not waited for
_GUESS_ABORT_GRACE_S = 1.0  # loading an ear takes 0.25 s, and what all ears of a worker have heard is worth that wait
_N_EARS = 2  # 100 MB each; a stretch that is spoken without a pause takes a fifth of a core for guesses and more for decisions

MODEL_ID = "pocketsphinx-en-us"
_FRAME_MS = 10
_NOWHERE_MS = -1


def pocketsphinx_info(reason: str) -> EngineInfo:
    return EngineInfo(
        name="pocketsphinx",
        model=MODEL_ID,
        device="cpu",
        languages=(ENGLISH,),
        features=frozenset({Feature.WORD_TIMES, Feature.WORD_CONFIDENCE, Feature.ALTERNATIVES, Feature.ALIGN}),
        owner="cmusphinx",
        reason=reason,
    )


def pocketsphinx_engine(
    reason: str, *, slots: int, queue_capacity: int, idle_timeout_s: float, metrics: Metrics, failpoints: str = ""
) -> SlotEngine:
    """The embedded engine with `slots` processes of about 120 MB, and 100 MB more for each stretch that one listens to at once.

    Raises EngineFailed when the package is not installed.
    """
    if find_spec("pocketsphinx") is None:
        raise EngineFailed("ENGINE=pocketsphinx: the package pocketsphinx is not installed (pip install pocketsphinx)")
    return SlotEngine(
        pocketsphinx_info(reason),
        lambda _: PocketsphinxRunner(failpoints),
        slots=slots,
        queue_capacity=queue_capacity,
        idle_timeout_s=idle_timeout_s,
        metrics=metrics,
    )


class PocketsphinxRunner(WorkerRunner):
    """One worker process; a new one takes 0.4 s."""

    def __init__(self, failpoints: str = "") -> None:
        super().__init__(_WORKER, failpoints=failpoints, abort_grace_s=_ABORT_GRACE_S)
        self.life = 0  # which process it is: 1, 2, ...
        self._free_ears = list(range(_N_EARS))

    async def start(self) -> None:
        self.life += 1
        await super().start()

    def lend_ear(self) -> PocketsphinxEar | None:
        """See HearingRunner."""
        return PocketsphinxEar(self, self._free_ears.pop(0), self._take_back) if self._free_ears else None

    def _take_back(self, index: int) -> None:
        self._free_ears = sorted([*self._free_ears, index])  # the lower ones are loaded already

    async def listen(self, fields: Mapping[str, Any], pcm: bytes) -> Mapping[str, Any]:
        """A guess in the worker, see pocketsphinx_worker. Raises what Runner.run raises."""
        return await self.ask(fields, pcm, abort_grace_s=_GUESS_ABORT_GRACE_S)

    def to_job(self, work: Work) -> Frame:
        if work.known_text is not None:
            words = [(unit.word, unit.text.lower()) for unit in cut_units(work.known_text)]
            return {"align": words}, to_int16(work.speech.samples)
        return {"max_alternatives": work.options.max_alternatives}, to_int16(work.speech.samples)

    def to_hypothesis(self, result: Mapping[str, Any], speech: Speech) -> Hypothesis:
        if "align" in result:
            return _aligned(result, speech)
        words = tuple(
            Word(text, speech.start_ms + start_ms, speech.start_ms + end_ms, confidence)
            for text, start_ms, end_ms, confidence in result["words"]
        )
        confidences = [word.confidence for word in words if word.confidence is not None]
        return Hypothesis(
            text=result["text"],
            language=ENGLISH,
            words=words,
            confidence=sum(confidences) / len(confidences) if confidences else None,
            alternatives=tuple((text, None) for text in result["alternatives"]),
        )


def _aligned(result: Mapping[str, Any], speech: Speech) -> Hypothesis:
    """The words of a known text; those whose times could not be had are put between the others."""
    said_ms = [edge for span in result["spans"] for edge in (span or (_NOWHERE_MS, _NOWHERE_MS))]
    times = settle_times(said_ms, [len(word) for _, word in result["align"]], speech.duration_ms, _FRAME_MS)
    words = tuple(
        Word(word, speech.start_ms + time.start_ms, speech.start_ms + time.end_ms, interpolated=time.interpolated)
        for (word, _), time in zip(result["align"], times, strict=True)
    )
    return Hypothesis(text=" ".join(word.text for word in words), language=ENGLISH, words=words)
