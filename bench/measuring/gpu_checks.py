"""Whether graphs, plain steps on the device, plain steps on the CPU and the baseline say the same, at small size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from asr_service.model.graphs import CapturedSteps, Difference, GraphState
from measuring.gpu_baseline import Baseline, NoBaseline
from measuring.gpu_clock import Clock
from measuring.gpu_models import LARGE, SMALL, TINY
from measuring.gpu_rig import Rig
from measuring.report import Row, row

_CPU = torch.device("cpu")
_CLIPS_S = (0.7, 3.0, 8.0, 9.3, 20.02)
_TOKENS = 24
_KERNEL_LIMITS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # a few roundings


def check(device: torch.device) -> list[Row]:
    """In float32, where a different order of sums does not change a token; the baseline has clips of a second and more."""
    rigs = {
        "graphs": _rig(device, with_graphs=True),
        "plain": _rig(device, with_graphs=False),
        "cpu": _rig(_CPU, with_graphs=False),
    }
    clips = [rigs["graphs"].prepare(seconds, _TOKENS, seed) for seed, seconds in enumerate(_CLIPS_S)]
    said = {name: rig.tokens(clips, 4) for name, rig in rigs.items()}
    rows = [
        _same("graphs = plain steps", said["graphs"], said["plain"]),
        _same("plain steps on this device = on the CPU", said["plain"], said["cpu"]),
        *_graph_rows(rigs["graphs"]),
    ]
    try:
        baseline = Baseline(TINY, torch.float32, device, _CPU)
        own = [baseline.generate([clip], _TOKENS)[0] for clip in clips[1:]]
    except NoBaseline as lack:
        print(f"left out: tokens = the baseline's: {lack}")
    else:
        rows.append(_same(f"graphs = {baseline.version}", said["graphs"][1:], own))
    for rig in rigs.values():
        rig.unload()
    return rows


def check_half_precision(device: torch.device) -> list[Row]:
    """The graphs' own check, in the number type that is served: how far they are from the plain steps."""
    rig = _rig(device, with_graphs=True, dtype="bfloat16")
    rows = _graph_rows(rig, " in bfloat16")
    rig.unload()
    return rows


def check_kernels(device: torch.device) -> list[Row]:
    """Each kernel of the decode step beside plain torch, with the sizes of the released models. Raises ImportError where the
    kernels, or the tests that come with the source tree, are not there."""
    from tests.model.kernel_cases import Cases

    rows = []
    for name, config in (("0.6B", SMALL), ("1.7B", LARGE)):
        cases = Cases(config.text, device)
        for kernel in (cases.add_norm, cases.gate, cases.rotate_and_write, cases.attend, cases.attend_long):
            for dtype, limit in _KERNEL_LIMITS.items():
                with torch.inference_mode():
                    worst = max(kernel(dtype, n) for n in (1, 5, 64))
                what = f"{name}: kernel {kernel.__name__} in {str(dtype).removeprefix('torch.')}"
                rows.append(row("check", what, worst, "of max", target=f"<= {limit:g}", met=worst <= limit))
    return rows


def _rig(device: torch.device, *, with_graphs: bool, dtype: str = "float32") -> Rig:
    rig = Rig(
        TINY,
        Clock(device, 1),
        dtype=dtype,
        kv_bytes=16 << 20,
        max_sequences=4,
        max_windows=4,
        with_graphs=with_graphs,
        made_on=_CPU,
    )
    rig.capture_all()
    return rig


def _graph_rows(rig: Rig, what: str = "") -> list[Row]:
    graphs = rig.runner.graphs
    assert graphs is not None
    n_bad = rig.captures.n_in(GraphState.FAILED) + rig.captures.n_in(GraphState.MISMATCHED)
    rows = [row("check", f"graphs that are not used{what}", n_bad, "graphs", target="0", met=n_bad == 0)]
    kinds = [row("check", f"largest difference of {kind.kind} graphs{what}", *worst_of(kind)) for kind in graphs.families]
    return [*rows, *kinds]


def worst_of(captured: CapturedSteps) -> tuple[float, str]:
    """How far a kind of graph is from the plain steps at the most, beside how far those are from themselves."""
    worst = max(captured.differences.values(), key=lambda difference: difference.found, default=Difference(math.nan, math.nan))
    return worst.found, f"of max (noise {worst.noise:.2g})"


def _same(what: str, found: Sequence[list[int]], expected: Sequence[list[int]]) -> Row:
    n_same = sum(a == b for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True))
    share = n_same / sum(map(len, expected))
    return row("check", what, share, "of tokens", target="1", met=share == 1)
