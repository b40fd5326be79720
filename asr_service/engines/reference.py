"""The stock qwen-asr package, unchanged, in worker processes: what the Qwen3-ASR engine is compared with.

One segment at a time, no batches, no partial texts. What it does is the package's own doing, with its own limits: it takes a
context and a language, or detects one; why a text ended it does not say. transformers is imported in the worker only, see
reference_worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr_service.config import Settings
from asr_service.decoding.budget import token_budget
from asr_service.engine.protocol import EngineFailed, EngineInfo, Feature
from asr_service.engine.slot import StartPolicy
from asr_service.engine.slots import SlotEngine
from asr_service.engines import extras
from asr_service.engines.frames import Frame
from asr_service.engines.worker_process import WorkerRunner
from asr_service.languages import LANGUAGES, Language
from asr_service.metrics import Metrics
from asr_service.request import SAMPLE_RATE, Hypothesis, Speech, Work

_WORKER = "asr_service.engines.reference_worker"
_ABORT_GRACE_S = 2.0  # it looks once per token; a new process takes many seconds, so the wait for a slow token pays
_POLICY = StartPolicy(max_failures=2, start_limit_s=300.0)  # imports and gigabytes of weights, on a busy machine
_ENVIRON = {
    "HF_HUB_OFFLINE": "1",  # all is in the folder
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_SHORTEST_SAMPLES = SAMPLE_RATE // 2  # as the package does with pieces that it cuts itself; on very little it fails


@dataclass(frozen=True, slots=True)
class ReferenceSettings:
    """Where and how precisely the package computes. 0 means: from the segment's length, and one per core."""

    device: str = "auto"
    dtype: str = "auto"
    max_new_tokens: int = 0
    threads: int = 0

    @classmethod
    def of(cls, settings: Settings) -> ReferenceSettings:
        return cls(settings.device, settings.dtype, settings.max_new_tokens, settings.torch_threads)


def reference_info(reason: str, model_id: str, device: str) -> EngineInfo:
    return EngineInfo(
        name="reference",
        model=model_id,
        device=device,
        languages=LANGUAGES,
        features=frozenset({Feature.CONTEXT, Feature.LANGUAGE_DETECTION}),
        owner="qwen-asr",
        reason=reason,
    )


def reference_engine(
    reason: str,
    model_id: str,
    *,
    settings: ReferenceSettings,
    slots: int,
    queue_capacity: int,
    idle_timeout_s: float,
    metrics: Metrics,
    failpoints: str = "",
) -> SlotEngine:
    """The package with `model_id`, a folder or a name on the hub, loaded once per slot.

    Raises EngineFailed when something is not installed or the weights are not on disk; it downloads nothing.
    """
    if lack := extras.REFERENCE.lack():
        raise EngineFailed(f"ENGINE=reference: {lack}")
    from asr_service.model.hub import locate

    folder = locate(model_id)
    return SlotEngine(
        reference_info(reason, model_id, settings.device),
        lambda _: ReferenceRunner(folder, settings, failpoints),
        slots=slots,
        queue_capacity=queue_capacity,
        idle_timeout_s=idle_timeout_s,
        metrics=metrics,
        policy=_POLICY,
    )


class ReferenceRunner(WorkerRunner):
    """One worker process with the weights in it."""

    def __init__(self, folder: Path, settings: ReferenceSettings, failpoints: str = "", *, worker: str = _WORKER) -> None:
        super().__init__(
            worker,
            failpoints=failpoints,
            abort_grace_s=_ABORT_GRACE_S,
            arguments=(str(folder), settings.device, settings.dtype, str(settings.threads)),
            environ=_ENVIRON,
        )
        self._max_new_tokens = settings.max_new_tokens

    def to_job(self, work: Work) -> Frame:
        """Samples are float32, held within full scale: the package would turn a louder segment down as a whole."""
        samples = work.speech.samples
        samples = np.pad(samples, (0, max(0, _SHORTEST_SAMPLES - len(samples))))
        fields = {
            "context": work.options.context,
            "language": None if work.options.language is None else work.options.language.name,
            "max_new_tokens": token_budget(work.speech.duration_ms / 1000, self._max_new_tokens),
        }
        return fields, np.clip(samples, -1.0, 1.0).astype("<f4").tobytes()

    def to_hypothesis(self, result: Mapping[str, Any], speech: Speech) -> Hypothesis:
        return Hypothesis(text=result["text"].strip(), language=_language(result["language"]))


def _language(name: str) -> Language | None:
    """By the package's name for it; "" stands for none."""
    return next((language for language in LANGUAGES if language.name.lower() == name.lower()), None)
