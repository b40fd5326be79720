"""Devices and number types by name, and what out of memory looks like."""

from __future__ import annotations

import pytest
import torch

from asr_service.engine.protocol import EngineFailed
from asr_service.model.device import choose_device, choose_dtype, is_out_of_memory

CPU = torch.device("cpu")


def test_a_number_type_follows_the_device_unless_it_is_named() -> None:
    assert choose_dtype("auto", CPU) is torch.float32
    assert choose_dtype("auto", torch.device("cuda:0")) is torch.bfloat16
    assert choose_dtype("float16", CPU) is torch.float16


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x", ""])
def test_an_unknown_device_is_named(name: str) -> None:
    with pytest.raises(EngineFailed, match=f"device '{name}': want cpu, cuda"):
        choose_device(name)


def test_an_absent_device_is_named() -> None:
    with pytest.raises(EngineFailed, match="device 'cuda:97': torch sees"):
        choose_device("cuda:97")


def test_an_unknown_number_type_is_named() -> None:
    with pytest.raises(EngineFailed, match="number type 'int8': want auto, float32"):
        choose_dtype("int8", CPU)


def test_a_tensor_too_large_for_the_machine_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
