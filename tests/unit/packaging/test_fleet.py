"""The simulation of many replicas: what must hold whatever the costs are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.packaging.sources import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from measuring.fleet import Fleet, Latencies, spread  # type: ignore[import-not-found]
from measuring.fleet_costs import (  # type: ignore[import-not-found]
    CADENCE_S,
    DESIGNED_WORK,
    SIZES,
    Costs,
    counted_work,
    floor_h200,
    measured_cpu,
    measured_gpu,
)
from measuring.fleet_table import put_into  # type: ignore[import-not-found]

COSTS = Costs("a device", "assumed", 0.01, 0.002, 32, 0.5)


def fleet(*streams: int, seed: int = 1, costs: Costs = COSTS) -> Fleet:
    return Fleet(costs, np.array(streams), np.random.default_rng(seed))


def p95_s(n: int, seed: int = 1) -> float:
    replica = fleet(n, seed=seed)
    replica.run_until(10.0)
    return float(replica.run_until(60.0).quantile_s(0.95))


def test_quantiles_weigh_what_a_round_stands_for() -> None:
    heard = Latencies()
    heard.add(np.array([1.0, 9.0]), np.array([99.0, 1.0]))

    assert (heard.quantile_s(0.95), heard.quantile_s(1.0), heard.n_chunks) == (1.0, 9.0, 100.0)


def test_the_same_seed_gives_the_same_numbers() -> None:
    assert p95_s(300, seed=4) == p95_s(300, seed=4)


def test_a_stream_alone_waits_for_its_own_round_only() -> None:
    heard = fleet(1).run_until(1000.0)

    assert heard.quantile_s(0.5) == pytest.approx(COSTS.round_s(1))


@given(st.integers(1, 900))
@settings(max_examples=8, deadline=None)
def test_every_chunk_is_heard_while_there_is_time(n: int) -> None:
    # At most 20 ms of 32 chunks: 900 streams bring 450 a second, which take 0.36 s.
    replica = fleet(n)
    replica.run_until(20.0)
    heard = replica.run_until(60.0)

    assert heard.n_chunks == pytest.approx(n * 40 / CADENCE_S, rel=0.1, abs=5 * np.sqrt(n * 40))


def test_more_streams_take_longer_and_too_many_fall_behind_by_a_bounded_time() -> None:
    times = [p95_s(n) for n in (10, 200, 600, 5000)]

    assert times == sorted(times)
    # 5000 streams with one chunk each waiting: 157 rounds of 32.
    assert times[-1] <= 157 * COSTS.round_s(32) + COSTS.round_s(32)


@given(st.lists(st.integers(0, 50), min_size=3, max_size=12), st.data())
@settings(max_examples=50, deadline=None)
def test_no_stream_is_lost_or_made_by_moving(streams: list[int], data: st.DataObject) -> None:
    some = fleet(*streams)
    leaving = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(streams), max_size=len(streams)).filter(lambda x: not all(x)))
    )
    moved = some.move_from(leaving)

    assert moved == sum(n for n, is_leaving in zip(streams, leaving, strict=True) if is_leaving)
    assert not some.streams[leaving].any()
    some.run_until(3.0)
    some.renew(0.3)
    assert not some.streams[leaving].any()
    some.bring_back(leaving, 3.0)
    assert some.streams.sum() == sum(streams)


@given(st.integers(2, 10), st.integers(0, 300), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_no_replica_gets_more_than_its_bound(n_replicas: int, each: int, n_leaving: int) -> None:
    n_leaving = min(n_leaving, n_replicas - 1)
    some = Fleet(COSTS, np.full(n_replicas, each), np.random.default_rng(3), 1.25)
    leaving = np.arange(n_replicas) < n_leaving
    some.move_from(leaving)
    mean = n_replicas * each / (n_replicas - n_leaving)

    # Those without a place of their own are dealt out at random, by the room that is left.
    assert some.streams.sum() == n_replicas * each
    assert some.streams.max() <= 1.25 * mean + 6 * np.sqrt(mean)


def test_streams_go_home_when_they_have_to_move_again() -> None:
    some = fleet(100, 100, 100)
    first, second = np.array([True, False, False]), np.array([False, True, False])
    some.move_from(first)
    at_second = some.streams[1] - 100
    some.bring_back(first, 1.0)
    some.move_from(second)

    # Those of the first that went to the second are back; the second's own are spread over the other two.
    assert some.streams[0] >= at_second
    assert some.streams[1] == 0


@pytest.mark.parametrize("evenly", [True, False])
def test_spreading_places_every_stream(evenly: bool) -> None:
    placed = spread(1003, 10, np.random.default_rng(2), evenly=evenly)

    assert placed.sum() == 1003
    assert not evenly or placed.max() - placed.min() == 1


def test_costs_of_a_core_give_back_what_they_were_made_from() -> None:
    rows = json.loads((ROOT / "bench/results/engine.json").read_text())
    costs = measured_cpu(rows, DESIGNED_WORK)

    assert costs.kind == "measured"
    assert 0 < costs.chunk_s < costs.round_s(1) < costs.round_s(8)
    assert costs.round_s(8) < 8 * costs.round_s(1)  # or nothing would be gained by batches


def gpu_rows(step_ms: float, row_ms: float) -> list[dict[str, object]]:
    steps = [
        {"what": f"0.6B: decode step, batch {b}, context 450, until the tokens are read", "value": step_ms + b * row_ms}
        for b in (1, 32)
    ]
    windows = [{"what": f"0.6B: encoder, {n} windows of 8 s, frames on the host", "value": 1 + n * 0.5} for n in (1, 32)]
    return [
        *steps,
        *windows,
        {"what": "0.6B: first token of a clip of 30 s, features ready", "value": 1 + 4 * 0.5 + 406 * 0.01},
    ]


def test_costs_of_a_gpu_come_from_its_measured_rows() -> None:
    costs = measured_gpu(gpu_rows(0.8, 0.01), SIZES[0], DESIGNED_WORK)

    assert costs is not None
    assert costs.fixed_s == pytest.approx((1 + 8 * 0.8) / 1000)
    assert costs.chunk_s == pytest.approx((5 / 8 * 0.5 + 97 * 0.01 + 8 * 0.01) / 1000)
    assert measured_gpu([], SIZES[0], DESIGNED_WORK) is None
    assert measured_gpu(gpu_rows(0.8, 0.01), SIZES[1], DESIGNED_WORK) is None


def test_the_larger_checkpoint_has_the_higher_floor() -> None:
    small, large = (floor_h200(size, DESIGNED_WORK) for size in SIZES)

    assert small.round_s(1) < large.round_s(1)
    assert small.slower(0.5, "half").round_s(7) == pytest.approx(2 * small.round_s(7))


def test_the_work_of_a_chunk_is_what_was_counted_where_it_was() -> None:
    head = "60 s without a pause, a guess each 2 s"
    rows = [
        {"what": f"{head}: seconds encoded for each second of audio", "value": 2.4},
        {"what": f"{head}: prompt tokens read for each guess beside the text so far, mean", "value": 80},
        {"what": "9 clips, a guess each 2 s: decode steps for each token of the final", "value": 1.1},
    ]

    work = counted_work(rows)

    assert (work.encoded_s, work.n_prompt) == (4.8, 96)
    assert work.n_steps == pytest.approx(8.8)
    assert counted_work(rows[:2]) is DESIGNED_WORK


def test_the_program_says_of_each_row_what_its_costs_are(tmp_path: Path) -> None:
    out = tmp_path / "scaling.json"
    command = [sys.executable, str(ROOT / "bench/scaling.py"), "--quick", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)

    rows = json.loads(out.read_text())
    assert {row["id"] for row in rows} == {"CAPACITY", "PLACE", "PLAN", "FAIL", "ROLL"}
    assert {row["conditions"]["costs are"] for row in rows} <= {"measured", "floor", "assumed"}


def test_the_page_about_scaling_shows_the_last_run() -> None:
    page = (ROOT / "docs/scaling.md").read_text()
    rows = json.loads((ROOT / "bench/results/scaling.json").read_text())

    assert put_into(page, rows) == page
