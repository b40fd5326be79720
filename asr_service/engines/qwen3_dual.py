"""DUAL_MODEL=true: two Qwen3-ASR checkpoints in one service, one that guesses at live speech and the main one for all else."""

from __future__ import annotations

import torch

from asr_service.engines.dual import DualEngine
from asr_service.engines.fast_metrics import fast_metrics
from asr_service.engines.qwen3 import LEAST_KV_TOKENS, Qwen3Model, build_engine, step_limits
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.engines.room import Need, check_room, host_room
from asr_service.metrics import Metrics
from asr_service.scheduler.steps import StepLimits


def dual_qwen3_engine(
    reason: str,
    model_id: str,
    fast_model_id: str,
    *,
    settings: Qwen3Settings,
    queue_capacity: int,
    idle_timeout_s: float,
    metrics: Metrics,
    failpoints: str = "",
) -> DualEngine:
    """Both engines, not started, each set up as `settings` say. Blocks while a model is downloaded.

    Raises EngineFailed for what cannot be had, as qwen3_engine does, and when the two do not fit side by side.
    """
    models = [Qwen3Model.open(name, settings) for name in (model_id, fast_model_id)]
    device = models[0].device
    limits = step_limits(settings, device, queue_capacity)
    room = _room(device)
    caches = _cache_bytes(models, settings, limits, room)
    needs = [Need(model.model_id, model.weight_bytes, cache) for model, cache in zip(models, caches, strict=True)]
    check_room(needs, room, str(device))
    main, fast = (
        build_engine(
            model,
            reason,
            settings=settings,
            limits=limits,
            cache_bytes=cache,
            idle_timeout_s=idle_timeout_s,
            metrics=shown,
            failpoints=failpoints,
        )
        for model, cache, shown in zip(models, caches, (metrics, fast_metrics(metrics)), strict=True)
    )
    return DualEngine(main, fast)


def _room(device: torch.device) -> int:
    """Bytes that are free where they will be."""
    if device.type != "cuda":
        return host_room()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def _cache_bytes(models: list[Qwen3Model], settings: Qwen3Settings, limits: StepLimits, room: int) -> list[int]:
    """Of each model's cache: as it would be alone, except for the share of a GPU, which both have for equally many tokens."""
    if settings.kv_cache_mib or models[0].device.type != "cuda":
        return [model.cache_bytes(settings, limits) for model in models]
    left = (room - sum(model.weight_bytes for model in models)) * settings.gpu_memory_fraction
    n_tokens = max(LEAST_KV_TOKENS, int(left / sum(model.token_bytes for model in models)))
    return [n_tokens * model.token_bytes for model in models]
