"""Weights in 8 bits: how near they are, and that nobody's rounding depends on who else is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from asr_service.engine.protocol import EngineFailed
from asr_service.engines.qwen3 import qwen3_engine
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.metrics import Metrics
from asr_service.model.layers import Affine
from asr_service.model.packed import PackedAffine, can_pack
from asr_service.model.quantized import Int8Affine
from asr_service.model.runner import ModelRunner
from tests.model.conftest import Pair, stopping
from tests.model.driving import Driver, make_work
from tests.model.sounds import spoken_clips


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_product_in_8_bits_is_off_by_about_a_hundredth(dtype: torch.dtype, has_bias: bool) -> None:
    weight, x = random(96, 160).to(dtype), random(9, 160, seed=1).to(dtype)
    bias = random(96, seed=2).to(dtype) if has_bias else None

    found = Int8Affine.of(weight, bias)(x)

    expected = functional.linear(x, weight, bias)
    assert found.dtype == dtype
    assert float((found - expected).float().std() / expected.float().std()) < 0.02


def test_a_rows_product_does_not_depend_on_the_others() -> None:
    affine, x = Int8Affine.of(random(64, 48)), random(5, 48, seed=1)
    x[3] *= 1000  # one tensor-wide scale would leave nothing of the others

    together = affine(x)

    for index in range(5):
        assert torch.equal(together[index], affine(x[index : index + 1])[0])


def test_rows_and_weights_of_zero_give_zero() -> None:
    affine = Int8Affine.of(torch.zeros(4, 8))

    assert torch.equal(affine(random(2, 8)), torch.zeros(2, 4))
    assert torch.equal(Int8Affine.of(random(4, 8))(torch.zeros(2, 8)), torch.zeros(2, 4))


@pytest.mark.parametrize("n", [1, 2, 7, 16, 300])
@pytest.mark.parametrize("has_bias", [False, True])
def test_packed_weights_are_the_same_weights(n: int, has_bias: bool) -> None:
    affine = Affine(random(120, 72), random(120, seed=1) if has_bias else None)
    assert can_pack(affine)

    found = PackedAffine.of(affine)(x := random(n, 72, seed=2))

    torch.testing.assert_close(found, affine(x), rtol=1e-5, atol=1e-4)


def test_most_clips_have_the_same_tokens_in_8_bits(small: Pair) -> None:
    clips = spoken_clips("clean")
    quantized = ModelRunner(
        small.folder, device="cpu", dtype="float32", kv_bytes=64 << 20, bind_replies=stopping, quantize="int8"
    )
    driver = Driver(quantized, quantized.load())

    equal = [driver.alone(make_work(clip.samples)) == small.driver.alone(make_work(clip.samples)) for clip in clips]

    assert sum(equal) >= 0.85 * len(clips)


@pytest.mark.parametrize(
    ("settings", "complaint"), [({"dtype": "float16"}, "QUANTIZE=int8: not with DTYPE=float16; expected float32 or bfloat16")]
)
def test_what_cannot_be_quantised_is_refused(small_folder: Path, settings: dict[str, str], complaint: str) -> None:
    chosen = Qwen3Settings(device="cpu", quantize="int8", dtype=settings["dtype"])

    with pytest.raises(EngineFailed, match=complaint):
        qwen3_engine("for a test", str(small_folder), settings=chosen, queue_capacity=1, idle_timeout_s=0, metrics=Metrics())
