"""Many replicas and the live streams on them, round by round.

Each stream brings a chunk every CADENCE_S, when exactly is random, and a replica that is free takes up what waits, at most a
batch of it. A stream has one chunk waiting at most: what comes on top of it is heard together with it. So a replica that has
too much falls behind by a bounded time, and its texts come less often.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from measuring.fleet_costs import CADENCE_S, Costs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Latencies:
    """Seconds from a chunk's arrival to its text, each standing for a number of chunks."""

    seconds: list[Floats] = field(default_factory=list)
    weights: list[Floats] = field(default_factory=list)

    def add(self, seconds: Floats, weights: Floats) -> None:
        self.seconds.append(seconds)
        self.weights.append(weights)

    @property
    def n_chunks(self) -> float:
        return float(sum(weights.sum() for weights in self.weights))

    def quantile_s(self, share: float) -> float:
        """NaN where nothing was heard."""
        if not self.seconds:
            return float("nan")
        seconds, weights = np.concatenate(self.seconds), np.concatenate(self.weights)
        order = np.argsort(seconds)
        sums = np.cumsum(weights[order])
        return float(seconds[order][np.searchsorted(sums, share * sums[-1])])


class Fleet:
    """Replicas, each with a clock of its own. Seeded: the same calls give the same numbers.

    `bound`: no replica that has more than this many times the mean gets another stream (Envoy: hash_balance_factor / 100).
    """

    def __init__(self, costs: Costs, streams: Ints, rng: np.random.Generator, bound: float = float("inf")) -> None:
        self.costs = costs
        self._bound = bound
        # Of each stream the replica that the hash of its id names, and the one it is at: at first they are the same.
        self._placed: Ints = np.diag(streams.astype(np.int64))
        self.is_up = np.ones(len(streams), dtype=bool)
        self._rng = rng
        self._clock: Floats = rng.random(len(streams)) * CADENCE_S
        self._since = self._clock.copy()  # chunks that arrived until then are waiting or heard
        self._waiting: Ints = np.zeros(len(streams), dtype=np.int64)
        self._oldest = self._clock.copy()  # when the first of those that wait came

    @property
    def streams(self) -> Ints:
        """How many each replica has."""
        return np.asarray(self._placed.sum(axis=0))

    def run_until(self, end_s: float) -> Latencies:
        """Lets every replica work until the clock of each is there; tells how long its chunks took."""
        heard, streams = Latencies(), self.streams
        while (busy := np.flatnonzero(self.is_up & (self._clock < end_s))).size:
            self._round(busy, streams[busy], heard)
        self._clock[~self.is_up] = np.maximum(self._clock[~self.is_up], end_s)
        return heard

    def move_from(self, leaving: NDArray[np.bool_]) -> int:
        """The replicas stop. Their streams go on elsewhere: at the one that their hash names, if it is up, else anywhere.

        The utterance of each that was open is heard anew there. Returns how many moved.
        """
        self.is_up &= ~leaving
        moving = self._placed[:, leaving].sum(axis=1)
        self._placed[:, leaving] = 0
        self._waiting[leaving] = 0
        arrived = self._place(moving)
        self._oldest = np.where(self._waiting > 0, self._oldest, self._clock)
        self._waiting += arrived
        return int(moving.sum())

    def renew(self, share: float) -> None:
        """About this share of the streams end, and as many begin."""
        ended = self._rng.binomial(self._placed, share)
        self._placed -= ended
        self._place(ended.sum(axis=1))

    def bring_back(self, back: NDArray[np.bool_], now_s: float) -> None:
        """The replicas serve again, empty: streams stay where they are until they have to move again."""
        self.is_up |= back
        self._clock[back] = self._since[back] = self._oldest[back] = now_s

    def _place(self, by_home: Ints) -> Ints:
        """Streams, counted by what their hash names, to where they go now; how many each replica got."""
        before, ups = self.streams, np.flatnonzero(self.is_up)
        most = self._bound * max(1, before.sum() + by_home.sum()) / len(ups)
        at_home = np.where(self.is_up, np.minimum(by_home, np.maximum(most - before, 0)), 0).astype(np.int64)
        self._placed[ups, ups] += at_home[ups]
        away = by_home - at_home
        room = np.where(self.is_up, 1.0 if np.isinf(most) else np.maximum(most - self.streams, 1e-9), 0.0)
        for home in np.flatnonzero(away > 0):
            self._placed[home] += self._rng.multinomial(away[home], room / room.sum())
        return self.streams - before

    def _round(self, busy: Ints, streams: Ints, heard: Latencies) -> None:
        """The next round of these replicas, or the idle time until a chunk comes."""
        now = self._clock[busy]
        span, left = now - self._since[busy], self._waiting[busy]
        age = np.where(left > 0, now - self._oldest[busy], span)
        waiting = np.minimum(left + self._rng.poisson(streams * span / CADENCE_S), streams)
        taken = np.minimum(waiting, self.costs.batch)
        works = taken > 0
        took = np.where(works, self.costs.round_s(taken), self._rng.exponential(CADENCE_S / np.maximum(streams, 1)))
        # First come, first heard; one chunk of the round stands for all of it.
        share = taken / np.maximum(waiting, 1)
        waited = age * (1 - share * self._rng.random(len(busy)))
        heard.add((waited + took)[works], taken[works].astype(np.float64))
        self._clock[busy] = now + took
        self._since[busy] = np.where(works, now, now + took)
        self._oldest[busy] = np.where(works, now - age * (1 - share), now + took)
        self._waiting[busy] = np.where(works, waiting - taken, (streams > 0).astype(np.int64))


def spread(n: int, n_replicas: int, rng: np.random.Generator, *, evenly: bool) -> Ints:
    """Streams on each replica: evenly (least requests), or by the hash of their ids (what resuming needs)."""
    if evenly:
        return np.full(n_replicas, n // n_replicas, dtype=np.int64) + (np.arange(n_replicas) < n % n_replicas)
    return rng.multinomial(n, np.full(n_replicas, 1 / n_replicas)).astype(np.int64)
