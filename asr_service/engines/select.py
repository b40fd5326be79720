"""Which engine serves, and why.

A value of ENGINE is a row of the table below. An engine that has a name but is not part of this version is listed too, so that
asking for it is answered with that and not with "unknown".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asr_service.engine.fake import FAKE_INFO, fake_engine
from asr_service.engine.protocol import Engine, EngineFailed
from asr_service.engines.pocketsphinx import MODEL_ID, pocketsphinx_engine
from asr_service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class _Needs:
    """What the engines are built from."""

    slots: int
    queue_capacity: int
    idle_timeout_s: float
    metrics: Metrics
    failpoints: str


@dataclass(frozen=True, slots=True)
class _Choice:
    model_id: str
    reason: str
    build: Callable[[str, _Needs], Engine]


def _pocketsphinx(reason: str, needs: _Needs) -> Engine:
    return pocketsphinx_engine(
        reason,
        slots=needs.slots,
        queue_capacity=needs.queue_capacity,
        idle_timeout_s=needs.idle_timeout_s,
        metrics=needs.metrics,
        failpoints=needs.failpoints,
    )


def _fake(_: str, needs: _Needs) -> Engine:
    return fake_engine(
        needs.metrics, slots=needs.slots, queue_capacity=needs.queue_capacity, idle_timeout_s=needs.idle_timeout_s
    )


_CHOICES = {
    "auto": _Choice(MODEL_ID, "ENGINE=auto: the Qwen3-ASR engine is not part of this version; embedded default", _pocketsphinx),
    "pocketsphinx": _Choice(MODEL_ID, "ENGINE=pocketsphinx", _pocketsphinx),
    "fake": _Choice(FAKE_INFO.model, FAKE_INFO.reason, _fake),
}
_NOT_BUILT = ("qwen3", "vllm", "reference")


def choose_engine(
    requested: str,
    *,
    model_id: str,
    slots: int,
    queue_capacity: int,
    idle_timeout_s: float,
    metrics: Metrics,
    failpoints: str = "",
) -> Engine:
    """The engine for a value of ENGINE, not started. `model_id` "" means the engine's own.

    Raises EngineFailed, naming key, value and what is valid, for an engine or a model that cannot be had.
    """
    choice = _CHOICES.get(requested)
    if choice is None:
        why = "not part of this version" if requested in _NOT_BUILT else "unknown"
        raise EngineFailed(f"ENGINE={requested}: {why}; valid: {', '.join(_CHOICES)}")
    if model_id not in ("", choice.model_id):
        raise EngineFailed(f"MODEL_ID={model_id}: ENGINE={requested} does not have it; valid: {choice.model_id}")
    return choice.build(choice.reason, _Needs(slots, queue_capacity, idle_timeout_s, metrics, failpoints))
