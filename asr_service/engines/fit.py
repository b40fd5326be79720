"""Whether an engine can do what the settings say; nothing that was set is ignored without a word."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from asr_service.config import Settings
from asr_service.engine.protocol import EngineFailed

_log = logging.getLogger(__name__)

_TORCH = frozenset({"qwen3", "reference"})
_PROCESSES = frozenset({"pocketsphinx", "reference", "fake"})
_QWEN3 = frozenset({"qwen3"})

_DEMANDS: Mapping[str, tuple[str, ...]] = {"dtype": ("auto", "float32"), "device": ("auto", "cpu")}
"""What the engines without torch can do; another value cannot be had from them."""

_ONLY_QWEN3: Mapping[str, tuple[str, ...]] = {"quantize": ("",)}
"""What the others can do, the reference among them."""

_USED_BY: Mapping[str, frozenset[str]] = {
    "max_inference_batch_size": _QWEN3,
    "max_new_tokens": _TORCH,
    "kv_cache_mib": _QWEN3,
    "gpu_memory_fraction": _QWEN3,
    "use_cuda_graphs": _QWEN3,
    "step_tokens": _QWEN3,
    "encode_windows": _QWEN3,
    "torch_threads": _TORCH,
    "engine_slots": _PROCESSES,
}


def check_fit(engine: str, settings: Settings) -> None:
    """Raises EngineFailed for a setting that the engine cannot fulfil; logs a warning for one that means nothing to it."""
    demands = {} if engine in _TORCH else dict(_DEMANDS)
    demands |= {} if engine in _QWEN3 else _ONLY_QWEN3
    for name, possible in demands.items():
        value = getattr(settings, name)
        if value not in possible:
            chosen = (
                f"ENGINE={settings.engine}" if settings.engine == engine else f"ENGINE={settings.engine} chose {engine}, which"
            )
            raise EngineFailed(
                f"{name.upper()}={value!r}: {chosen} cannot do that; expected {' or '.join(possible) or 'it unset'}"
            )
    for name, engines in _USED_BY.items():
        value = getattr(settings, name)
        if engine not in engines and value != type(settings).model_fields[name].default:
            _log.warning("%s=%s has no effect: the engine %s does not use it", name.upper(), value, engine)
