"""Ratios on a machine with neighbours: both sides in turn, pair after pair, and only pairs in which the machine kept its speed.

A fixed product of matrices is timed before, between and after the two sides of a pair. Where these moved by more than 15 % the
pair tells of the neighbours and is taken anew, a bounded number of times.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import torch

STEADY = 0.15
_TRIES = 2  # so many times the pairs that are wanted

Side = Callable[[], Awaitable[float]]
"""One run; the seconds that it took."""


@dataclass
class Calibration:
    """A product of matrices that takes some hundredths of a second."""

    _a: torch.Tensor = field(default_factory=lambda: torch.full((768, 768), 0.5))

    def seconds(self) -> float:
        """The median of five."""
        taken_s = []
        for _ in range(5):
            started_s = perf_counter()
            for _ in range(4):
                torch.mm(self._a, self._a)
            taken_s.append(perf_counter() - started_s)
        return statistics.median(taken_s)


@dataclass(frozen=True)
class Pairs:
    """What was measured: seconds of each side, by pair."""

    seconds: Mapping[str, list[float]]
    n_discarded: int

    def ratios(self, baseline: str, ours: str) -> list[float]:
        return [b / o for b, o in zip(self.seconds[baseline], self.seconds[ours], strict=True)]

    def median_s(self, side: str) -> float:
        return statistics.median(self.seconds[side])


async def take_pairs(sides: Mapping[str, Side], n_pairs: int) -> Pairs:
    """Each side once per pair, in an order that turns round from pair to pair. A side that comes twice under two names is a
    side of its own. When too few pairs were steady the steadiest of the others are taken, and stay counted as discarded."""
    calibration = Calibration()
    for side in sides.values():
        await side()  # warm
    kept: list[dict[str, float]] = []
    unsteady: list[tuple[float, dict[str, float]]] = []
    while len(kept) < n_pairs and len(kept) + len(unsteady) < _TRIES * n_pairs:
        order = list(sides.items())
        if (len(kept) + len(unsteady)) % 2:
            order.reverse()
        speeds, taken = [calibration.seconds()], {}
        for name, side in order:
            taken[name] = await side()
            speeds.append(calibration.seconds())
        moved = max(speeds) / min(speeds) - 1
        if moved <= STEADY:
            kept.append(taken)
        else:
            unsteady.append((moved, taken))
    n_discarded = len(unsteady)
    kept += [taken for _, taken in sorted(unsteady, key=lambda pair: pair[0])[: n_pairs - len(kept)]]
    return Pairs({name: [taken[name] for taken in kept] for name in sides}, n_discarded)
