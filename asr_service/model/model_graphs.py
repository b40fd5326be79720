"""All graphs of a loaded model: which are captured before it serves, and which when it is idle."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asr_service.model.config import ModelConfig
from asr_service.model.decode_graphs import DecodeGraphs
from asr_service.model.decode_ops import DecodeOps
from asr_service.model.encoder_graphs import EncoderGraphs
from asr_service.model.graphs import CapturedSteps, GraphBackend, GraphState, ReportGraphs
from asr_service.model.kv_cache import KvCache
from asr_service.model.network import Network

FIRST = 8
"""Graphs up to this size are there before a model serves."""


def ignore_graphs(_kind: str, _state: GraphState, _n: int) -> None:
    """A ReportGraphs for those who do not count."""


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """That there shall be graphs, and for how large steps. `backend`: None for CUDA's. `ops`: as for DecodeGraphs."""

    max_sequences: int
    max_windows: int
    report: ReportGraphs = ignore_graphs
    backend: GraphBackend | None = None
    ops: DecodeOps | None = None


class ModelGraphs:
    """Captures, one graph at a time. While it does so no sequence may be in the cache."""

    def __init__(
        self,
        plan: GraphPlan,
        backend: GraphBackend,
        config: ModelConfig,
        network: Network,
        cache: KvCache,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.decode = DecodeGraphs(
            config.text,
            network.decoder,
            cache,
            backend,
            max_rows=plan.max_sequences,
            dtype=dtype,
            device=device,
            report=plan.report,
            ops=plan.ops,
        )
        self.encoder = EncoderGraphs(
            config.audio,
            network.encoder,
            backend,
            max_windows=plan.max_windows,
            dtype=dtype,
            device=device,
            report=plan.report,
        )

    @property
    def families(self) -> list[CapturedSteps]:
        return [*self.decode.families, self.encoder.captured]

    def capture_first(self) -> None:
        """Those that a model must have before it serves."""
        while any(captured.capture_next(FIRST) for captured in self.families):
            pass

    def capture_next(self) -> bool:
        """One more. Returns whether there was one."""
        return any(captured.capture_next() for captured in self.families)
