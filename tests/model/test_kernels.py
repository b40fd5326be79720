"""The GPU kernels against plain torch, on Triton's interpreter: the arithmetic, not the compiled code."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.stack.processes import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed; it comes with torch for CUDA"
)


def run(program: str, **environment: str) -> str:
    """In a process of its own: the interpreter must be asked for before the kernels are imported."""
    environ = {**os.environ, "TRITON_INTERPRET": "1", **environment}
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


KERNELS = """
from tests.model.kernel_cases import Cases
import torch
case = Cases().{case}
with torch.inference_mode():
    for dtype, limit in {limits}:
        for rows in {rows}:
            difference = case(dtype, rows)
            assert difference <= limit, (dtype, rows, difference)
print("same")
"""
FLOAT32 = "(torch.float32, 2e-6)"
BFLOAT16 = f"({FLOAT32}, (torch.bfloat16, 3e-2))"  # a few roundings; the interpreter cuts bits off where a GPU rounds
FLOAT16 = f"({FLOAT32}, (torch.float16, 3e-3))"  # the interpreter has no matrix product in bfloat16


@pytest.mark.parametrize(
    ("case", "rows", "limits"),
    [
        ("add_norm", (1, 3), BFLOAT16),
        ("gate", (1, 3), BFLOAT16),
        ("rotate_and_write", (1, 3), BFLOAT16),
        ("attend", (1, 2, 64), FLOAT16),
        ("attend_long", (1,), FLOAT16),
    ],
)
def test_a_kernel_computes_what_plain_torch_does(case: str, rows: tuple[int, ...], limits: str) -> None:
    assert run(KERNELS.format(case=case, rows=rows, limits=limits)) == "same\n"


STEP = """
from tests.model.kernel_cases import step
import torch
with torch.inference_mode():
    step()
print("same")
"""


def test_a_decode_step_with_the_kernels_is_the_plain_one() -> None:
    assert run(STEP) == "same\n"


COMPILE = """
from tests.model.kernel_builds import build_all
print(build_all({dtype!r}))
"""


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_the_kernels_can_be_built_for_a_gpu_of_compute_capability_9(dtype: str) -> None:
    assert run(COMPILE.format(dtype=dtype), TRITON_INTERPRET="0") == "6 kernels\n"
