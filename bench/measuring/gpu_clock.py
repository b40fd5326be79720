"""How long things take: on the device between two events, or for the one who waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_WARM_UPS = 3


@dataclass(frozen=True)
class Clock:
    """`repeats`: measurements of one thing; what they give is told as their median and range."""

    device: torch.device
    repeats: int

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    def on_device_ms(self, run: Callable[[], object]) -> list[float]:
        """Of work that the device is given and that nobody waits for in between."""
        for _ in range(_WARM_UPS):
            run()
        if not self.is_gpu:
            return self.waited_ms(run)
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(self.repeats)]
        for begin, end in pairs:
            begin.record()
            run()
            end.record()
        self.wait()
        return [begin.elapsed_time(end) for begin, end in pairs]

    def waited_ms(self, run: Callable[[], object], repeats: int | None = None) -> list[float]:
        """From the call until the device is done."""
        taken = []
        for _ in range(repeats or self.repeats):
            self.wait()
            begin_s = time.perf_counter()
            run()
            self.wait()
            taken.append((time.perf_counter() - begin_s) * 1000)
        return taken


def copy_rate(clock: Clock) -> float:
    """GB/s of a large copy on the device, bytes read and written: what reading weights and cache can reach."""
    n_bytes = (2 << 30) if clock.is_gpu else (16 << 20)
    source = torch.empty(n_bytes, dtype=torch.uint8, device=clock.device).random_()
    target = torch.empty_like(source)
    taken_ms = sorted(clock.on_device_ms(lambda: target.copy_(source)))
    return 2 * n_bytes / taken_ms[len(taken_ms) // 2] / 1e6
