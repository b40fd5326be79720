"""The embedded engine: pocketsphinx in worker processes, one per slot.

Its binding holds the GIL for a whole call, so it decodes in processes of their own; see pocketsphinx_worker for what goes
through the pipes. This module does not import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from asr_service.engine.protocol import EngineFailed, EngineInfo, Feature
from asr_service.engine.slots import SlotEngine
from asr_service.engines.frames import Frame
from asr_service.engines.worker_process import WorkerRunner
from asr_service.languages import ENGLISH
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Samples, Speech, Word, Work

_WORKER = "asr_service.engines.pocketsphinx_worker"
_ABORT_GRACE_S = 0.1  # longer than most blocks; the last pass over a long segment takes seconds and is not waited for

MODEL_ID = "pocketsphinx-en-us"


def pocketsphinx_info(reason: str) -> EngineInfo:
    return EngineInfo(
        name="pocketsphinx",
        model=MODEL_ID,
        device="cpu",
        languages=(ENGLISH,),
        features=frozenset({Feature.WORD_TIMES, Feature.WORD_CONFIDENCE, Feature.ALTERNATIVES}),
        owner="cmusphinx",
        reason=reason,
    )


def pocketsphinx_engine(
    reason: str, *, slots: int, queue_capacity: int, idle_timeout_s: float, metrics: Metrics, failpoints: str = ""
) -> SlotEngine:
    """The embedded engine with `slots` processes of about 120 MB. Raises EngineFailed when the package is not installed."""
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

    def to_job(self, work: Work) -> Frame:
        return {"max_alternatives": work.options.max_alternatives}, _to_int16(work.speech.samples)

    def to_hypothesis(self, result: Mapping[str, Any], speech: Speech) -> Hypothesis:
        words = tuple(
            Word(text, speech.start_ms + start_ms, speech.start_ms + end_ms, confidence)
            for text, start_ms, end_ms, confidence in result["words"]
        )
        return Hypothesis(
            text=result["text"],
            language=ENGLISH,
            words=words,
            confidence=sum(word.confidence or 0.0 for word in words) / len(words) if words else None,
            alternatives=tuple((text, None) for text in result["alternatives"]),
        )


def _to_int16(samples: Samples) -> bytes:
    """float32 -> little-endian int16. What exceeds +-1.0 (a downmix can) is turned down as a whole rather than clipped: the
    recogniser removes the mean of the cepstra, so the level means little to it and distortion a lot."""
    peak = max(1.0, float(np.max(np.abs(samples), initial=0.0)))
    return (samples * (32767.0 / peak)).round().astype("<i2").tobytes()
