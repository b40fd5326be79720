"""What the settings for a GPU come to, without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from asr_service.config import Settings
from asr_service.engines import qwen3
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.environment import BadSettings
from asr_service.metrics import Metrics
from asr_service.model.checkpoint import Checkpoint
from asr_service.model.graphs import GraphState
from asr_service.model.kv_cache import bytes_per_token

CUDA = torch.device("cuda")


@pytest.mark.parametrize(("value", "is_fit"), [("0.04", False), ("0.05", True), ("0.95", True), ("0.96", False)])
def test_a_share_of_the_memory_is_between_a_twentieth_and_all_but_one(
    monkeypatch: pytest.MonkeyPatch, value: str, is_fit: bool
) -> None:
    monkeypatch.setenv("GPU_MEMORY_FRACTION", value)

    if is_fit:
        assert Qwen3Settings.of(Settings.load()).gpu_memory_fraction == float(value)
    else:
        with pytest.raises(BadSettings, match="GPU_MEMORY_FRACTION"):
            Settings.load()


def test_the_cache_takes_its_share_of_what_the_weights_leave(small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(small_folder)
    weights = checkpoint.n_parameters * 2
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (weights + 10**10, 2 * 10**10))
    settings = Qwen3Settings(gpu_memory_fraction=0.5)

    n_bytes = qwen3._kv_bytes(checkpoint, CUDA, torch.bfloat16, settings, qwen3.step_limits(settings, CUDA, 8))

    assert n_bytes == 5 * 10**9
    assert n_bytes > bytes_per_token(checkpoint.config.text, torch.bfloat16)


def test_there_are_graphs_on_cuda_unless_they_are_switched_off() -> None:
    settings, metrics = Qwen3Settings(), Metrics()
    limits = qwen3.step_limits(settings, CUDA, 8)

    plan = qwen3._graph_plan(settings, CUDA, limits, metrics)

    assert plan is not None
    assert (plan.max_sequences, plan.max_windows) == (limits.max_sequences, limits.encode_windows)
    plan.report("decode", GraphState.FAILED, 2)
    assert metrics.registry.get_sample_value("asr_engine_graphs", {"kind": "decode", "state": "failed"}) == 2
    assert qwen3._graph_plan(Qwen3Settings(use_cuda_graphs=False), CUDA, limits, metrics) is None
    assert qwen3._graph_plan(settings, torch.device("cpu"), limits, metrics) is None
