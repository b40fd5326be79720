"""FORCED_ALIGNER_ID: a checkpoint, the network over it, and the queue in front, put together."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from asr_service.config import Settings, cpu_count
from asr_service.engine.aligner import AlignerInfo
from asr_service.engine.protocol import EngineFailed
from asr_service.engine.queued_aligner import AlignLimits, QueuedAligner
from asr_service.engines.room import host_room
from asr_service.engines.word_tokenisers import WordTokenisers
from asr_service.languages import LANGUAGES, Language
from asr_service.metrics import Metrics
from asr_service.model.aligner import QwenAligner
from asr_service.model.download import download
from asr_service.model.hub import folder_of, is_on_disk, locate

_log = logging.getLogger(__name__)

MOST_MS = 180_000
"""The longest stretch that is aligned at once: what the reference package gives its aligner."""
_TRAINED = ("zh", "en", "yue", "fr", "de", "it", "ja", "ko", "pt", "ru", "es")
"""What the released aligner was trained on, for checkpoints that list nothing."""
_SPARE = 1.25  # of weights and cache, for what lies around while a batch is computed
_MIB = 2**20


def forced_aligner(settings: Settings, metrics: Metrics) -> QueuedAligner:
    """The aligner that the settings name, not loaded. Blocks while a model that is not on this machine is downloaded.

    Raises EngineFailed when the checkpoint or the device cannot be had, or the checkpoint has no times for stretches as long as
    the settings let them become.
    """
    model_id = settings.forced_aligner_id
    folder = _folder(model_id)
    device = "cuda" if settings.device == "auto" and torch.cuda.is_available() else settings.device.replace("auto", "cpu")
    on_gpu = device.startswith("cuda")
    threads = None if on_gpu else settings.torch_threads or max(1, cpu_count() // 2)  # the recogniser goes on beside it
    max_tokens = 65_536 if on_gpu else 8192
    model = BudgetedAligner(folder, device=device, dtype=settings.dtype, threads=threads, max_tokens=max_tokens)
    reach_ms = min(MOST_MS, model.reach_ms)
    _check_reach(settings, reach_ms)
    limits = AlignLimits(
        max_pieces=32 if on_gpu else 4,
        max_tokens=max_tokens,
        queue_capacity=settings.max_queued_segments,
        step_ms=model.config.class_ms,
    )
    info = AlignerInfo("qwen3-forced-aligner", model_id, device, _languages(model.config.model.languages), reach_ms)
    return QueuedAligner(
        info,
        model,
        WordTokenisers(),
        limits=limits,
        idle_timeout_s=settings.idle_timeout,
        metrics=metrics,
    )


class BudgetedAligner(QwenAligner):
    """Loaded only where there is room for it and for its largest batch."""

    def __init__(self, folder: Path, *, device: str, dtype: str, threads: int | None, max_tokens: int) -> None:
        super().__init__(folder, device=device, dtype=dtype, threads=threads)
        self._max_tokens = max_tokens

    def load(self) -> None:
        """See AlignModel."""
        needed = round(_SPARE * (self.weight_bytes + self._max_tokens * self.token_bytes))
        room = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else host_room()
        if needed > room:
            raise EngineFailed(f"it needs {-(-needed // _MIB)} MiB; {self.device} has {room // _MIB} MiB to spare")
        super().load()


def _check_reach(settings: Settings, reach_ms: int) -> None:
    if settings.segment_hard_seconds * 1000 > reach_ms:
        raise EngineFailed(
            f"SEGMENT_HARD_SECONDS={settings.segment_hard_seconds:g}: FORCED_ALIGNER_ID={settings.forced_aligner_id} has times "
            f"for {reach_ms / 1000:g} s at most"
        )


def _folder(model_id: str) -> Path:
    if folder_of(model_id) is None and not is_on_disk(model_id):
        _log.warning("downloading the aligner %s", model_id)
        return download(model_id, lambda _, __: None)
    return locate(model_id)


def _languages(names: tuple[str, ...]) -> tuple[Language, ...]:
    listed = {name.lower() for name in names}
    named = tuple(language for language in LANGUAGES if language.name.lower() in listed)
    return named or tuple(language for language in LANGUAGES if language.code in _TRAINED)
