"""How many live streams a fleet of replicas carries, from 1 to 1000 of them, and what failures and restarts do: a simulation.

    python bench/scaling.py [--quick] [--out FILE]

Nothing here is measured but what it is fed with: the step costs of bench/results/engine.json, the counted work of
streaming.json and the GPU's steps of gpu.json, where these exist. For a GPU that was not measured there are the floor of its
data sheet, and a share of that floor, which is an assumption. Each row says which of these its costs are ("measured", "floor",
"assumed"); what is computed from them is simulated. Prints a table, and writes bench/results/scaling.json and the table of
docs/scaling.md; with --out only that file. --quick tries it all out at small size and writes nothing unless told where.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from measuring.fleet import Fleet, Latencies, spread  # noqa: E402
from measuring.fleet_costs import (  # noqa: E402
    CADENCE_S,
    SIZES,
    Costs,
    counted_work,
    floor_h200,
    measured_cpu,
    measured_gpu,
)
from measuring.fleet_table import put_into  # noqa: E402

RESULTS = ROOT / "bench/results"
PAGE = ROOT / "docs/scaling.md"
SEED = 20
SHARE = 0.33  # of the floor that a GPU is assumed to reach
START_S = 30.0  # until a new process serves: assumed
SESSION_S = 600.0  # that a stream lasts on average: assumed
DRAIN_S = 30.0  # DRAIN_TIMEOUT
BOUND = 1.25  # times the mean that a replica may have and still get more: hash_balance_factor of docs/deploy/base/envoy.yaml
MOST = 2000  # replicas; more are not planned for
FILL = 0.7  # of its capacity that a replica is given before something happens

Row = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    steady_s: float
    replicas: tuple[int, ...]
    fleet: int  # of the scenarios
    streams: tuple[int, ...]


FULL = Scale(40.0, (1, 10, 100, 1000), 100, (1_000, 10_000, 100_000, 1_000_000))
QUICK = Scale(4.0, (1, 5), 5, (1_000, 10_000))


def row(id_: str, what: str, value: float, unit: str, costs: Costs, **facts: object) -> Row:
    conditions = {"costs": costs.name, "costs are": costs.kind, **facts}
    return {"id": id_, "what": f"{costs.name}: {what}", "value": round(value, 3), "unit": unit, "conditions": conditions}


def steady(costs: Costs, streams: np.ndarray[Any, np.dtype[np.int64]], seconds: float, seed: int = SEED) -> Latencies:
    """Chunks of a fleet to which nothing happens; its first seconds, in which it falls into step, are left out."""
    fleet = Fleet(costs, streams, np.random.default_rng(seed))
    fleet.run_until(4 * CADENCE_S)
    return fleet.run_until(4 * CADENCE_S + seconds)


def capacity(costs: Costs, scale: Scale) -> int:
    """The most streams of one replica whose p95 is within the limit; 0 where one is too many."""

    def is_in_time(n: int) -> bool:
        return steady(costs, np.array([n]), scale.steady_s).quantile_s(0.95) <= costs.limit_s

    low, high = 0, 1
    while is_in_time(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if is_in_time(middle) else (low, middle)
    return low


def alone(costs: Costs, n: int, scale: Scale) -> Iterator[Row]:
    """CAPACITY"""
    yield row("CAPACITY", "a round of one chunk", 1000 * costs.round_s(1), "ms", costs)
    full = 1000 * costs.round_s(costs.batch)
    yield row("CAPACITY", f"a round of {costs.batch} chunks, the most", full, "ms", costs, batch=costs.batch)
    facts = {"limit": f"p95 <= {costs.limit_s:g} s", "a chunk of each": f"{CADENCE_S:g} s"}
    yield row("CAPACITY", "streams of one replica that are in time", n, "streams", costs, **facts)
    if n:
        half = 1000 * steady(costs, np.array([max(1, n // 2)]), scale.steady_s).quantile_s(0.95)
        yield row("CAPACITY", "p95 at half of that", half, "ms", costs)


def many(costs: Costs, n: int, scale: Scale) -> Iterator[Row]:
    """PLACE"""
    each = max(1, int(FILL * n))
    for n_replicas in scale.replicas:
        for evenly, how in ((True, "evenly"), (False, "by hash")):
            streams = spread(each * n_replicas, n_replicas, np.random.default_rng(SEED), evenly=evenly)
            p95_s = steady(costs, streams, scale.steady_s / 4).quantile_s(0.95)
            facts = {"streams": int(streams.sum()), "fullest over mean": round(float(streams.max() / each), 2)}
            yield row("PLACE", f"{n_replicas} replicas at {FILL:.0%}, placed {how}: p95", 1000 * p95_s, "ms", costs, **facts)


def needed(costs: Costs, n: int, scale: Scale) -> Iterator[Row]:
    """PLAN"""
    for n_streams in (count for count in scale.streams if count <= n * MOST):
        count = enough(costs, n, n_streams)
        facts = {
            "streams": n_streams,
            "lost at once": spare(count),
            "limit": f"p95 <= {costs.limit_s:g} s with the others, by hash",
        }
        yield row("PLAN", f"replicas for {n_streams} streams", count, "replicas", costs, **facts)


def spare(n_replicas: int) -> int:
    """How many may be away at once: one, or two in a hundred."""
    return max(1, -(-n_replicas // 50))


def enough(costs: Costs, n: int, n_streams: int) -> int:
    def is_enough(count: int) -> bool:
        left = count - spare(count)
        if left < 1 or n_streams > left * n * 1.2:
            return False
        streams = spread(n_streams, left, np.random.default_rng(SEED), evenly=False)
        return steady(costs, streams[: 100 if left > 100 else left], 10.0).quantile_s(0.95) <= costs.limit_s

    low, high = 1, 2
    while not is_enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def failures(costs: Costs, n: int, scale: Scale) -> Iterator[Row]:
    """FAIL"""
    for fill, lost in ((FILL, 0.01), (FILL, 0.1), (FILL, 1 / 3), (0.9, 0.1)):
        rng = np.random.default_rng(SEED)
        streams = spread(int(fill * n * scale.fleet), scale.fleet, rng, evenly=False)
        fleet = Fleet(costs, streams, rng)
        fleet.run_until(10.0)
        before_s = fleet.run_until(20.0).quantile_s(0.95)
        moved = fleet.move_from(np.arange(scale.fleet) < max(1, round(lost * scale.fleet)))
        seconds = []
        for second in range(60):
            seconds.append(fleet.run_until(21.0 + second))
            fleet.renew(1 / SESSION_S)
        ticks = [heard.quantile_s(0.95) for heard in seconds]
        bound_s = max(costs.limit_s, 1.1 * before_s)
        late = [second for second, value in enumerate(ticks) if value > bound_s]
        share = sum(heard.n_chunks for heard in seconds) / (fleet.streams.sum() * 60 / CADENCE_S)
        facts = {
            "replicas": scale.fleet,
            "streams moved": moved,
            "p95 before, ms": round(1000 * before_s, 1),
            "p95 of the last of 60 s, ms": round(1000 * ticks[-1], 1),
            "seconds until it stays within the limit": late[-1] + 1 if late else 0,
            "chunks with a text of their own": f"{min(share, 1.0):.1%}",
        }
        what = f"{lost:.0%} of {scale.fleet} replicas at {fill:.0%} die at once: worst p95 of a second"
        yield row("FAIL", what, 1000 * max(ticks), "ms", costs, **facts)


def restarts(costs: Costs, n: int, scale: Scale) -> Iterator[Row]:
    """ROLL"""
    for share, bound in ((0.05, float("inf")), (0.05, BOUND), (0.2, BOUND)):
        rng = np.random.default_rng(SEED)
        fleet = Fleet(costs, spread(int(FILL * n * scale.fleet), scale.fleet, rng, evenly=False), rng, bound)
        now_s, n_batch, worst_s, moved = 20.0, max(1, round(share * scale.fleet)), 0.0, 0
        fleet.run_until(now_s)
        for first in range(0, scale.fleet, n_batch):
            batch = (np.arange(scale.fleet) >= first) & (np.arange(scale.fleet) < first + n_batch)
            moved += fleet.move_from(batch)
            for _ in range(int(START_S) // 5):
                now_s += 5.0
                worst_s = max(worst_s, fleet.run_until(now_s).quantile_s(0.95))
                fleet.renew(5 / SESSION_S)
            fleet.bring_back(batch, now_s)
        facts = {
            "replicas": scale.fleet,
            "start s (assumed)": START_S,
            "minutes in all, drain included": round(scale.fleet / n_batch * (START_S + DRAIN_S) / 60, 1),
            "moves of a stream, mean": round(moved / float(fleet.streams.sum()), 2),
            "fullest over mean afterwards": round(float(fleet.streams.max() / fleet.streams.mean()), 2),
        }
        how = "by hash" if bound > BOUND else f"by hash, bound {bound:g} x"
        what = f"{scale.fleet} replicas at {FILL:.0%} restarted, {share:.0%} at a time, {how}: worst p95 of 5 s"
        yield row("ROLL", what, 1000 * worst_s, "ms", costs, **facts)


def devices() -> list[Costs]:
    work = counted_work(_read("streaming"))
    found = [measured_cpu(_read("engine"), work)]
    for size in SIZES:
        floor = floor_h200(size, work)
        measured = measured_gpu(_read("gpu"), size, work)
        found += [floor, measured or floor.slower(SHARE, f"H200, {size.name}, {SHARE:.0%} of the floor")]
    return found


def simulate(scale: Scale) -> list[Row]:
    rows: list[Row] = []
    for costs in devices():
        n = capacity(costs, scale)
        rows += alone(costs, n, scale)
        if costs.kind != "floor" and n > 1:
            for part in (many, needed, failures, restarts):
                rows += part(costs, n, scale)
    return rows


def _read(name: str) -> Sequence[Row]:
    path = RESULTS / f"{name}.json"
    rows: Sequence[Row] = json.loads(path.read_text()) if path.is_file() else []
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="everything, at small size")
    parser.add_argument("--out", type=Path, help="where the rows go; bench/results/scaling.json where nothing is said")
    chosen = parser.parse_args()
    began_s = time.perf_counter()
    rows = simulate(QUICK if chosen.quick else FULL)
    common = {
        "what": "simulated, from the costs named in each row",
        "python": platform.python_version(),
        "seed": SEED,
        "work of a chunk": counted_work(_read("streaming")).source,
        "a stream": f"talks all the time, {SESSION_S / 60:g} minutes long on average (assumed)",
    }
    for entry in rows:
        entry["conditions"] = common | entry["conditions"]
        told = {name: value for name, value in entry["conditions"].items() if name not in (*common, "costs")}
        print(f"{entry['id']:8} {entry['what']:100} {entry['value']:12g} {entry['unit']:8} {told}")
    print(f"{time.perf_counter() - began_s:.1f} s")
    if chosen.out:
        chosen.out.write_text(json.dumps(rows, indent=2) + "\n")
    elif not chosen.quick:
        (RESULTS / "scaling.json").write_text(json.dumps(rows, indent=2) + "\n")
        PAGE.write_text(put_into(PAGE.read_text(), rows))


if __name__ == "__main__":
    main()
