"""Which engine serves, and why.

ENGINE names one, or is `auto`: the Qwen3-ASR engine where it is installed and its weights are on disk, else the embedded one.
`auto` never downloads anything, and where MODEL_ID asks for a model it never gives another. An engine that has a name but is
not part of this version is known too, so that asking for it is answered with that and not with "unknown".

No recogniser is imported here; what was chosen is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asr_service.config import DEFAULT_MODEL_ID, Settings, cpu_count
from asr_service.engine.aligner import Aligner, EngineAligner
from asr_service.engine.aligning_engine import AligningEngine
from asr_service.engine.fake import FAKE_INFO, fake_engine
from asr_service.engine.protocol import Engine, EngineFailed, Feature
from asr_service.engines import extras, pocketsphinx
from asr_service.engines.fit import check_fit
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.metrics import Metrics

_NOT_BUILT = ("vllm",)


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, the model it will have, and why it is this one."""

    engine: str
    model_id: str
    reason: str


def choose_engine(settings: Settings, metrics: Metrics) -> Engine:
    """The engine that the settings ask for, not started.

    Raises EngineFailed, naming key, value and what to do, for an engine, a model or a setting that cannot be had.
    """
    choice = choose(settings.engine, settings.model_id)
    check_fit(choice.engine, settings)
    engine = _BUILDERS[choice.engine](choice, settings, metrics)
    return _aligning(engine, settings, metrics) if settings.forced_aligner_id else engine


def aligner_of(engine: Engine, settings: Settings) -> Aligner | None:
    """Who gives times to texts that are known: the forced aligner, or an engine that can. None: nobody."""
    if isinstance(engine, AligningEngine):
        return engine.aligner
    if Feature.ALIGN in engine.info.features:
        return EngineAligner(engine, reach_ms=round(settings.segment_hard_seconds * 1000))
    return None


def _aligning(engine: Engine, settings: Settings, metrics: Metrics) -> Engine:
    if lack := extras.QWEN3.lack():
        raise EngineFailed(f"FORCED_ALIGNER_ID={settings.forced_aligner_id}: {lack}")
    from asr_service.engines.forced_aligner import forced_aligner

    try:
        return AligningEngine(engine, forced_aligner(settings, metrics), has_scores=engine.info.name == "qwen3")
    except EngineFailed as error:
        raise EngineFailed(f"FORCED_ALIGNER_ID={settings.forced_aligner_id}: {error}") from error


def choose(engine: str, model_id: str) -> Choice:
    """What a value of ENGINE means with one of MODEL_ID ("": none was named). Raises EngineFailed."""
    if engine == "auto":
        return _automatic(model_id)
    if engine not in _BUILDERS:
        why = "not part of this version" if engine in _NOT_BUILT else "unknown"
        raise EngineFailed(f"ENGINE={engine}: {why}; valid: {', '.join(('auto', *_BUILDERS))}")
    own = _OWN_MODELS.get(engine)
    if own is not None and model_id not in ("", own):
        raise EngineFailed(f"MODEL_ID={model_id}: ENGINE={engine} does not have it; valid: {own}")
    return Choice(engine, own or model_id or DEFAULT_MODEL_ID, FAKE_INFO.reason if engine == "fake" else f"ENGINE={engine}")


def _automatic(model_id: str) -> Choice:
    wanted = model_id or DEFAULT_MODEL_ID
    if model_id == pocketsphinx.MODEL_ID:
        return Choice("pocketsphinx", model_id, f"ENGINE=auto: MODEL_ID={model_id}")
    lack = extras.QWEN3.lack() or _lack_of_weights(wanted)
    if not lack:
        return Choice("qwen3", wanted, f"ENGINE=auto: {wanted} is on disk")
    if model_id:
        raise EngineFailed(f"MODEL_ID={model_id}: {lack}")
    return Choice("pocketsphinx", pocketsphinx.MODEL_ID, f"ENGINE=auto: {lack}; embedded default")


def _lack_of_weights(model_id: str) -> str:
    """What is missing on this machine and what to do about it; empty where nothing is."""
    from asr_service.model.hub import locate

    try:
        locate(model_id)
    except EngineFailed as error:
        return str(error)
    return ""


def _qwen3(choice: Choice, settings: Settings, metrics: Metrics) -> Engine:
    if lack := extras.QWEN3.lack():
        raise EngineFailed(f"ENGINE=qwen3: {lack}")
    if settings.dual_model:
        return _dual(choice, settings, metrics)
    from asr_service.engines.qwen3 import qwen3_engine

    return qwen3_engine(
        choice.reason,
        choice.model_id,
        settings=Qwen3Settings.of(settings),
        queue_capacity=settings.max_queued_segments,
        idle_timeout_s=settings.idle_timeout,
        metrics=metrics,
        failpoints=settings.failpoints,
    )


def _dual(choice: Choice, settings: Settings, metrics: Metrics) -> Engine:
    if settings.fast_model_id == choice.model_id:
        raise EngineFailed(f"FAST_MODEL_ID={choice.model_id}: is MODEL_ID too; expected another model, or DUAL_MODEL unset")
    from asr_service.engines.qwen3_dual import dual_qwen3_engine

    return dual_qwen3_engine(
        choice.reason,
        choice.model_id,
        settings.fast_model_id,
        settings=Qwen3Settings.of(settings),
        queue_capacity=settings.max_queued_segments,
        idle_timeout_s=settings.idle_timeout,
        metrics=metrics,
        failpoints=settings.failpoints,
    )


def _pocketsphinx(choice: Choice, settings: Settings, metrics: Metrics) -> Engine:
    return pocketsphinx.pocketsphinx_engine(
        choice.reason,
        slots=settings.engine_slots or cpu_count(),
        queue_capacity=settings.max_queued_segments,
        idle_timeout_s=settings.idle_timeout,
        metrics=metrics,
        failpoints=settings.failpoints,
    )


def _reference(choice: Choice, settings: Settings, metrics: Metrics) -> Engine:
    from asr_service.engines.reference import ReferenceSettings, reference_engine

    return reference_engine(
        choice.reason,
        choice.model_id,
        settings=ReferenceSettings.of(settings),
        slots=settings.engine_slots or 1,
        queue_capacity=settings.max_queued_segments,
        idle_timeout_s=settings.idle_timeout,
        metrics=metrics,
        failpoints=settings.failpoints,
    )


def _fake(_: Choice, settings: Settings, metrics: Metrics) -> Engine:
    return fake_engine(
        metrics,
        slots=settings.engine_slots or cpu_count(),
        queue_capacity=settings.max_queued_segments,
        idle_timeout_s=settings.idle_timeout,
    )


_BUILDERS: dict[str, Callable[[Choice, Settings, Metrics], Engine]] = {
    "qwen3": _qwen3,
    "reference": _reference,
    "pocketsphinx": _pocketsphinx,
    "fake": _fake,
}
_OWN_MODELS = {"pocketsphinx": pocketsphinx.MODEL_ID, "fake": FAKE_INFO.model}
