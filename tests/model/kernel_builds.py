"""Builds each kernel for a GPU that is not there, with the sizes of Qwen3-ASR 1.7B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from asr_service.model import kernels

HOPPER = GPUTarget("cuda", 90, 32)
SHARED_BYTES = 99 << 10
"""Of one program at most: what smaller GPUs than Hopper have, too."""


def build(kernel: Any, arguments: Mapping[str, str], constants: Mapping[str, Any]) -> None:
    signature = {**arguments, **dict.fromkeys(constants, "constexpr")}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    built = triton.compile(ASTSource(kernel, signature, places), target=HOPPER)
    assert built.asm["cubin"]
    assert built.metadata.shared <= SHARED_BYTES, f"{kernel.__name__} takes {built.metadata.shared} bytes of shared memory"


def build_all(dtype: str) -> str:
    """`dtype`: bf16, fp16 or fp32."""
    x, wide, index = f"*{dtype}", "*fp32", "*i64"
    block = 32 if dtype == "fp32" else 64
    build(
        kernels._add_norm_kernel,
        {"x": x, "update": x, "weight": x, "total": x, "normed": x},
        {"n": 2048, "eps": 1e-6, "has_update": True, "block": 2048},
    )
    build(kernels._gate_kernel, {"gate_up": x, "out": x}, {"n": 6144, "block": 1024})
    build(
        kernels._rotate_and_write_kernel,
        {"qkv": x, "weight": x, "cosines": x, "sines": x, "places": index, "queries": x, "keys": x, "values": x}
        | {"head_stride": "i64"},
        {"heads": 16, "kv_heads": 8, "dim": 128, "eps": 1e-6},
    )
    for splits, mixed in ((32, wide), (1, x)):
        build(
            kernels._attention_kernel,
            {"queries": x, "keys": x, "values": x, "begins": index, "positions": index, "mixed": mixed, "weights": wide}
            | {"head_stride": "i64", "scale": "fp32"},
            {"kv_heads": 8, "group": 2, "padded_group": 16, "dim": 128, "splits": splits, "block": block, "precision": "ieee"},
        )
    build(kernels._join_kernel, {"mixed": wide, "weights": wide, "out": x}, {"splits": 32, "dim": 128})
    return "6 kernels"
