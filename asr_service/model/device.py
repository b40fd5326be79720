"""Devices and number types by the names that people write in settings."""

from __future__ import annotations

import torch

from asr_service.engine.protocol import EngineFailed

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "alloc_failed")
"""How allocators that have no error type of their own say it."""


def choose_device(name: str) -> torch.device:
    """The device of "cpu", "cuda" or "cuda:N". Raises EngineFailed when it is not there."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise EngineFailed(f"device {name!r}: want cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineFailed(f"device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices here")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number type of weights and cache; "auto" is bfloat16 on a GPU and float32 elsewhere. Raises EngineFailed."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise EngineFailed(f"number type {name!r}: want auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the host, had no room for a tensor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY)
