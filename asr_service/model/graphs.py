"""Steps that are captured once and replayed: a GPU then does a whole step at one call, instead of a launch per operation.

    function of static tensors  --capture-->  replay      once per batch size, largest first: the smaller find its memory again
    batch of n rows             --pad-->      the smallest captured size from n on, or several of the largest

A captured function reads its inputs from static tensors and leaves its results in static tensors. All that it allocates in
between comes from one pool that all graphs share and is free again when it ends, so any graph may follow any other. Before a
graph is used its results are compared with the plain computation; one that cannot be captured or that differs is left out, and
the plain computation takes its place. In half precision two right ways to compute the same may be far apart, how far depends on
the weights; so what is allowed is measured too, as what the plain computation makes of inputs changed in their last bits.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch

_log = logging.getLogger(__name__)

Replay = Callable[[], None]
Fetched = Callable[[], torch.Tensor]
"""Waits for a tensor that is on its way and gives it, on the host."""

_WARM_UPS = 2  # runs before the capture: libraries set themselves up, kernels are compiled
_ALLOWED = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # at least, of the largest value
_ALLOWED_PER_NOISE = 4.0
_MOST_ALLOWED = 0.5  # what has nothing to do with the right result is off by 1


class GraphState(Enum):
    """Where a graph is on its way. A number of each is kept as a metric."""

    WAITING = "waiting"
    CAPTURED = "captured"
    FAILED = "failed"
    MISMATCHED = "mismatched"


ReportGraphs = Callable[[str, GraphState, int], None]
"""Told (kind, state, how many graphs of this kind are in it) whenever that changes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Between the results of a graph and of the plain computation, as a share of the largest value; infinite where a result is
    wrong in another way. `noise`: between the plain results for inputs that differ by roundings."""

    found: float
    noise: float

    def is_allowed(self, dtype: torch.dtype) -> bool:
        return self.found <= min(_MOST_ALLOWED, max(_ALLOWED[dtype], _ALLOWED_PER_NOISE * self.noise))


class GraphBackend(Protocol):
    """What captures and replays."""

    def capture(self, run: Callable[[], None]) -> Replay:
        """Runs it a few times, then captures it. Raises RuntimeError when that cannot be done."""
        ...

    def fetch(self, tensor: torch.Tensor) -> Fetched:
        """Begins to copy a tensor to the host, behind what has been asked of the device so far."""
        ...


class CudaGraphs:
    """CUDA graphs of one device, which must be the current one of the calling thread."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def capture(self, run: Callable[[], None]) -> Replay:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                run()
        current.wait_stream(self._stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads ask of CUDA meanwhile, such as page-locked memory, does not break the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            run()
        return graph.replay

    def fetch(self, tensor: torch.Tensor) -> Fetched:
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> torch.Tensor:
            done.synchronize()
            return host

        return wait


class RunAgain:
    """Without a GPU: a replay runs the function again. Everything around the graphs is the same, for tests."""

    def capture(self, run: Callable[[], None]) -> Replay:
        run()
        return run

    def fetch(self, tensor: torch.Tensor) -> Fetched:
        copy = tensor.clone()
        return lambda: copy


class StaticStep(Protocol):
    """A function of static tensors, for batches of different sizes."""

    def run(self, size: int) -> None:
        """From the static inputs to the static results, for a batch of this size. Waits for nothing on the host."""
        ...

    def difference(self, size: int, replay: Replay) -> Difference:
        """Replays it on made-up inputs and compares with the plain computation."""
        ...


class CapturedSteps:
    """One StaticStep, captured for some batch sizes."""

    def __init__(
        self, kind: str, sizes: Sequence[int], step: StaticStep, backend: GraphBackend, dtype: torch.dtype, report: ReportGraphs
    ) -> None:
        self.kind = kind
        self.differences: dict[int, Difference] = {}  # by size, of those that could be captured
        self._step = step
        self._backend = backend
        self._dtype = dtype
        self._report = report
        self._states = dict.fromkeys(sorted(sizes, reverse=True), GraphState.WAITING)
        self._replays: dict[int, Replay] = {}
        self._tell()

    @property
    def counts(self) -> dict[GraphState, int]:
        counter = Counter(self._states.values())
        return {state: counter[state] for state in GraphState}

    @property
    def sizes(self) -> list[int]:
        """The captured ones, ascending."""
        return sorted(self._replays)

    # Capture

    def capture_next(self, up_to: int | None = None) -> bool:
        """Captures and checks the largest size that waits, of those up to `up_to`. Returns whether there was one."""
        waiting = [size for size, state in self._states.items() if state is GraphState.WAITING]
        size = next((size for size in waiting if up_to is None or size <= up_to), None)
        if size is None:
            return False
        self._states[size] = self._capture(size)
        self._tell()
        return True

    def _capture(self, size: int) -> GraphState:
        try:
            replay = self._backend.capture(lambda: self._step.run(size))
            difference = self._step.difference(size, replay)
        except RuntimeError as error:  # of capturing or for want of memory; the plain computation serves as well
            _log.warning("the %s graph of size %d cannot be captured: %s", self.kind, size, error)
            return GraphState.FAILED
        self.differences[size] = difference
        if not difference.is_allowed(self._dtype):
            _log.warning("the %s graph of size %d is wrong: %s", self.kind, size, difference)
            return GraphState.MISMATCHED
        _log.debug("the %s graph of size %d: %s", self.kind, size, difference)
        self._replays[size] = replay
        return GraphState.CAPTURED

    def _tell(self) -> None:
        for state, n in self.counts.items():
            self._report(self.kind, state, n)

    # Pad and replay

    def split(self, n: int) -> list[tuple[int, int]]:
        """The replays that serve a batch of n: (rows, size) of each. Empty when none is captured."""
        sizes, parts = self.sizes, []
        while sizes and n > 0:
            size = next((size for size in sizes if size >= n), sizes[-1])
            parts.append((min(n, size), size))
            n -= size
        return parts

    def replay(self, size: int) -> None:
        self._replays[size]()


def upload(static: torch.Tensor, host: torch.Tensor) -> None:
    """A host tensor into a static one; the copy to a GPU goes through page-locked memory and is not waited for."""
    static.copy_(host.pin_memory() if static.device.type == "cuda" else host, non_blocking=True)


def shaken(tensor: torch.Tensor) -> torch.Tensor:
    """Each value changed by about half of its last bit at random."""
    bits = torch.finfo(tensor.dtype).eps / 2
    return tensor + tensor * (torch.rand_like(tensor, dtype=torch.float32) * 4 - 2).mul_(bits).to(tensor.dtype)


def difference_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest absolute difference as a share of the largest absolute value expected; infinite where one is no number."""
    found, expected = found.float(), expected.float()
    share = float(((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item())
    return math.inf if math.isnan(share) else share
