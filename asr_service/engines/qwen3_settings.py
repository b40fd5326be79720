"""How the Qwen3-ASR engine is set up."""

from __future__ import annotations

from dataclasses import dataclass

from asr_service.config import Settings


@dataclass(frozen=True, slots=True)
class Qwen3Settings:
    """The engine's part of the settings. 0 means by device, where docs/operations.md does not say otherwise."""

    device: str = "auto"  # auto, cpu, cuda or cuda:N
    dtype: str = "auto"  # auto, float32, bfloat16 or float16
    quantize: str = ""  # int8: the decoder's layers in 8 bits, on a CPU
    max_batch: int = 0  # segments at once
    max_new_tokens: int = 0  # most tokens of one reply; 0: from its duration
    kv_cache_mib: int = 0
    step_tokens: int = 0  # prompt tokens in one step
    encode_windows: int = 0  # windows of 8 s in one step
    live_window_s: int = 8  # the encoder's window for live speech
    gpu_memory_fraction: float = 0.85  # of what is left beside the weights, for the cache
    use_cuda_graphs: bool = True
    threads: int = 0  # on the CPU; 0: one per core

    @classmethod
    def of(cls, settings: Settings) -> Qwen3Settings:
        return cls(
            device=settings.device,
            dtype=settings.dtype,
            quantize=settings.quantize,
            max_batch=settings.max_inference_batch_size,
            max_new_tokens=settings.max_new_tokens,
            kv_cache_mib=settings.kv_cache_mib,
            step_tokens=settings.step_tokens,
            encode_windows=settings.encode_windows,
            live_window_s=settings.live_window_seconds,
            gpu_memory_fraction=settings.gpu_memory_fraction,
            use_cuda_graphs=settings.use_cuda_graphs,
            threads=settings.torch_threads,
        )
