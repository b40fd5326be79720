"""ENGINE=qwen3: a checkpoint, the step model over it, and the engine that schedules its steps, put together."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from asr_service.config import cpu_count
from asr_service.decoding.header import TAG
from asr_service.decoding.replies import ReplyMaker
from asr_service.engine.protocol import EngineFailed, EngineInfo, Feature
from asr_service.engine.recognition import recognize
from asr_service.engine.slot import StartPolicy
from asr_service.engine.step_engine import StepEngine
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.failpoints import Failpoints
from asr_service.languages import LANGUAGES, Language
from asr_service.metrics import Metrics
from asr_service.model.allocator import keep_freed_memory
from asr_service.model.checkpoint import Checkpoint
from asr_service.model.config import ModelConfig
from asr_service.model.device import choose_device, choose_dtype
from asr_service.model.download import download
from asr_service.model.graphs import GraphState
from asr_service.model.hub import folder_of, is_on_disk, locate
from asr_service.model.kv_cache import bytes_per_token
from asr_service.model.model_graphs import GraphPlan
from asr_service.model.prepared import BudgetedReply, MakeReply
from asr_service.model.quantized import can_quantize
from asr_service.model.runner import ModelRunner
from asr_service.model.tokenizer import Tokenizer
from asr_service.request import Work
from asr_service.scheduler.steps import StepLimits

_log = logging.getLogger(__name__)

_KV_TOKENS_PER_SEQUENCE = 1024  # half a minute of speech with its prompt and its whole budget, and some context
LEAST_KV_TOKENS = 4096  # one minute with the longest context
_SHARE_OF_HOST = 0.25  # of the machine's memory, at most, for the cache on a CPU

_FEATURES = frozenset({Feature.CONTEXT, Feature.PHRASES, Feature.TEMPERATURE, Feature.LANGUAGE_DETECTION})


def qwen3_engine(
    reason: str,
    model_id: str,
    *,
    settings: Qwen3Settings,
    queue_capacity: int,
    idle_timeout_s: float,
    metrics: Metrics,
    failpoints: str = "",
) -> StepEngine:
    """The engine over a checkpoint, not started. Blocks while a model that is not on this machine is downloaded.

    Raises EngineFailed when the checkpoint, the device or the number type cannot be had.
    """
    model = Qwen3Model.open(model_id, settings)
    limits = step_limits(settings, model.device, queue_capacity)
    return build_engine(
        model,
        reason,
        settings=settings,
        limits=limits,
        cache_bytes=model.cache_bytes(settings, limits),
        idle_timeout_s=idle_timeout_s,
        metrics=metrics,
        failpoints=failpoints,
    )


def build_engine(
    model: Qwen3Model,
    reason: str,
    *,
    settings: Qwen3Settings,
    limits: StepLimits,
    cache_bytes: int,
    idle_timeout_s: float,
    metrics: Metrics,
    failpoints: str,
) -> StepEngine:
    """The engine over an opened checkpoint, with an attention cache of this size."""
    if model.device.type == "cpu":
        keep_freed_memory()
    runner = ModelRunner(
        model.folder,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        kv_bytes=cache_bytes,
        bind_replies=lambda tokenizer, config: _make_reply(tokenizer, config, settings.max_new_tokens),
        threads=settings.threads or (cpu_count() if model.device.type == "cpu" else None),
        quantize=settings.quantize,
        graphs=_graph_plan(settings, model.device, limits, metrics),
        live_window_s=settings.live_window_s,
        failpoints=Failpoints(failpoints),
    )
    info = EngineInfo(
        name="qwen3",
        model=model.model_id,
        device=str(model.device),
        languages=_languages(model.checkpoint.config),
        features=_FEATURES,
        owner="Qwen",
        reason=reason,
    )
    return StepEngine(
        info,
        runner,
        limits=limits,
        idle_timeout_s=idle_timeout_s,
        metrics=metrics,
        recognize_work=partial(recognize, max_new_tokens=settings.max_new_tokens),
        # What fails twice here will not be cured by patience, but gigabytes take their time.
        policy=StartPolicy(max_failures=2, start_limit_s=600.0, stop_limit_s=30.0),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Qwen3Model:
    """A verified checkpoint and what it will be computed on."""

    model_id: str
    folder: Path
    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def open(cls, model_id: str, settings: Qwen3Settings) -> Qwen3Model:
        """Downloads it first where it is not on this machine. Raises EngineFailed, see qwen3_engine."""
        folder = _folder(model_id)
        checkpoint = Checkpoint.open(folder)
        device = choose_device(_device_name(settings.device))
        dtype = choose_dtype(settings.dtype, device)
        _check_quantize(settings.quantize, device, dtype)
        return cls(model_id, folder, checkpoint, device, dtype)

    @property
    def weight_bytes(self) -> int:
        """While they are loaded; with 8 bits it is less afterwards."""
        return self.checkpoint.n_parameters * self.dtype.itemsize

    @property
    def token_bytes(self) -> int:
        """Of one token in the attention cache."""
        return bytes_per_token(self.checkpoint.config.text, self.dtype)

    def cache_bytes(self, settings: Qwen3Settings, limits: StepLimits) -> int:
        """Of an attention cache for this model alone."""
        return settings.kv_cache_mib * 2**20 or _kv_bytes(self.checkpoint, self.device, self.dtype, settings, limits)


def _folder(model_id: str) -> Path:
    if folder_of(model_id) is None and not is_on_disk(model_id):
        _log.warning("downloading the model; `asr models pull %s` shows progress", model_id)
        return download(model_id, lambda _, __: None)
    return locate(model_id)


def _device_name(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_quantize(quantize: str, device: torch.device, dtype: torch.dtype) -> None:
    if quantize and device.type != "cpu":
        raise EngineFailed(f"QUANTIZE={quantize}: the engine is on {device}; 8 bits are for DEVICE=cpu")
    if quantize and dtype == torch.float16:
        raise EngineFailed(f"QUANTIZE={quantize}: not with DTYPE=float16; expected float32 or bfloat16")
    if quantize and not can_quantize():
        raise EngineFailed(f"QUANTIZE={quantize}: this build of torch has no 8-bit kernels for this processor")


def step_limits(settings: Qwen3Settings, device: torch.device, queue_capacity: int) -> StepLimits:
    """How much is served at once and done in one step: as the settings say, or what suits the device."""
    on_gpu = device.type == "cuda"
    step_tokens = settings.step_tokens or (2048 if on_gpu else 256)
    max_sequences = settings.max_batch or (32 if on_gpu else 8)
    return StepLimits(
        max_sequences=max_sequences,
        queue_capacity=queue_capacity,
        step_tokens=step_tokens,
        bulk_step_tokens=max(1, step_tokens // (4 if on_gpu else 2)),  # on a CPU smaller ones lose too much
        encode_windows=settings.encode_windows or (32 if on_gpu else 2),
        live_riders=max_sequences if on_gpu else 1,  # a row costs a GPU next to nothing, a CPU a fifth of a step
    )


def _kv_bytes(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, settings: Qwen3Settings, limits: StepLimits
) -> int:
    """The cache where KV_CACHE_MIB does not say: on a GPU a share of what is left, on a CPU what a full batch needs."""
    per_token = bytes_per_token(checkpoint.config.text, dtype)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        weights = checkpoint.n_parameters * dtype.itemsize
        return max(LEAST_KV_TOKENS * per_token, round((free - weights) * settings.gpu_memory_fraction))
    wanted = max(LEAST_KV_TOKENS, limits.max_sequences * _KV_TOKENS_PER_SEQUENCE) * per_token
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(LEAST_KV_TOKENS * per_token, min(wanted, round(host * _SHARE_OF_HOST)))


def _graph_plan(settings: Qwen3Settings, device: torch.device, limits: StepLimits, metrics: Metrics) -> GraphPlan | None:
    if device.type != "cuda" or not settings.use_cuda_graphs:
        return None

    def report(kind: str, state: GraphState, n: int) -> None:
        metrics.engine_graphs.labels(kind, state.value).set(n)

    return GraphPlan(limits.max_sequences, limits.encode_windows, report)


def _make_reply(tokenizer: Tokenizer, config: ModelConfig, max_new_tokens: int) -> MakeReply:
    replies = ReplyMaker(tokenizer.encode, tokenizer.decode, config.stop_ids, tokenizer.find(TAG), max_new_tokens)

    def make_reply(work: Work) -> BudgetedReply:
        reply = replies(work)
        return BudgetedReply(reply, reply.max_tokens)

    return make_reply


def _languages(config: ModelConfig) -> tuple[Language, ...]:
    """Those of the checkpoint that we have a code for, in its order; all where it names none."""
    by_name = {language.name: language for language in LANGUAGES}
    named = tuple(by_name[name] for name in config.languages if name in by_name)
    return named or LANGUAGES
