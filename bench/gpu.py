"""The engine on a GPU: whether its graphs compute what plain steps do, and how fast it is beside the transformers library.

    python bench/gpu.py              everything, in under ten minutes
    python bench/gpu.py --check      only whether the results are the same
    python bench/gpu.py --trial      everything at toy size on a CPU, with replays that run the functions again: tries this
                                     program out and measures nothing

Weights are random, of the released models' sizes, and made on the device; nothing is read from disk or network. Needed are
torch, numpy and this source tree, with what its engine imports (tokenizers, safetensors, prometheus-client). The model of the
transformers library is the baseline where it is there. What cannot be measured is said in a line that begins with "left out".

Results go to $OUT/gpu.json, or to bench/results/gpu.json; after every part, so that little is lost when time runs out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the source tree need not be installed

import torch  # noqa: E402
from measuring import gpu_live, gpu_parts  # noqa: E402
from measuring.gpu_baseline import Baseline, NoBaseline  # noqa: E402
from measuring.gpu_checks import check, check_half_precision, check_kernels  # noqa: E402
from measuring.gpu_clock import Clock, copy_rate  # noqa: E402
from measuring.gpu_rig import Rig  # noqa: E402
from measuring.gpu_scale import FULL, TRIAL, Scale  # noqa: E402
from measuring.report import Row, machine, row, show  # noqa: E402

from asr_service.model.decode_ops import has_fused_ops  # noqa: E402

LIMIT_S = 540.0


@dataclass
class Session:
    """One run: its rows so far, written after each part, and the time that is left."""

    path: Path | None
    limit_s: float
    conditions: dict[str, object]
    begin_s: float = field(default_factory=time.monotonic)
    rows: list[Row] = field(default_factory=list)
    n_broken: int = 0

    def run(self, what: str, needs_s: float, make: Callable[[], Iterable[Row]]) -> None:
        """A part: its rows as they come. One that breaks, or for which no time is left, costs the others nothing."""
        left_s = self.limit_s - (time.monotonic() - self.begin_s)
        if left_s < needs_s:
            print(f"left out: {what}: {left_s:.0f} s are left, it needs about {needs_s:.0f}", flush=True)
            return
        part_s = time.monotonic()
        first = len(self.rows)
        try:
            for made in make():
                self.rows.append(made)
        except Exception as error:
            self.n_broken += 1
            traceback.print_exc(file=sys.stdout)
            print(f"left out: {what}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        show(self.rows[first:])
        print(f"      {what}: {time.monotonic() - part_s:.1f} s", flush=True)
        self._write()

    def _write(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps([made | {"conditions": self.conditions | made["conditions"]} for made in self.rows], indent=2)
            self.path.write_text(text + "\n")


def measure_model(session: Session, scale: Scale, name: str, clock: Clock, rate: float) -> None:
    """All parts of one model; its memory is free again afterwards."""
    config, targets = scale.models[name]
    rig: Rig | None = None
    try:
        kv_bytes = scale.kv_bytes
        if clock.is_gpu:
            kv_bytes = min(kv_bytes, round(torch.cuda.mem_get_info()[0] * scale.kv_share))
        begin_s = time.monotonic()
        rig = Rig(
            config, clock, dtype=scale.dtype, kv_bytes=kv_bytes, max_sequences=scale.batches[-1], max_windows=scale.windows[-1]
        )
        print(f"{name}: loaded in {time.monotonic() - begin_s:.1f} s, {rig.kv_tokens} cache places", flush=True)
        subject = gpu_parts.Subject(name, rig, scale, targets, clock, rate)
        session.run(f"{name}: H12 warm-up", 30, lambda: gpu_parts.warm_up(subject))
        session.run(f"{name}: H1-H3 decode steps", 10, lambda: gpu_parts.decode_steps(subject))
        session.run(f"{name}: H4 encoder", 10, lambda: gpu_parts.encoder_windows(subject))
        session.run(f"{name}: H5 first token", 10, lambda: gpu_parts.first_token(subject))
        session.run(f"{name}: H6 throughput", 20, lambda: gpu_parts.throughput(subject))
        session.run(f"{name}: H1, H5, H6c baseline", 60, lambda: _beside_baseline(subject))
        session.run(f"{name}: H10 live chunks", 10, lambda: gpu_parts.live_chunks(subject))
        session.run(f"{name}: H8, H9 live streams", 80, lambda: gpu_live.live_streams(subject))
        session.run(f"{name}: H11 live beside uploads", 60, lambda: gpu_live.live_beside_uploads(subject))
        session.run(f"{name}: H15 waits", 15, lambda: gpu_parts.waits_for_the_device(subject))
        session.run(f"{name}: H7 long clips", 30, lambda: gpu_parts.long_clips(subject))
    except Exception as error:
        session.n_broken += 1
        traceback.print_exc(file=sys.stdout)
        print(f"left out: {name}: {error}", flush=True)
    finally:
        if rig is not None:
            rig.unload()


def _beside_baseline(subject: gpu_parts.Subject) -> list[Row]:
    try:
        baseline = Baseline(subject.rig.config, getattr(torch, subject.scale.dtype), subject.clock.device)
    except NoBaseline as lack:
        print(f"left out: {subject.name}: the baseline: {lack}")
        return []
    rows = list(gpu_parts.baseline_ratios(subject, baseline))
    del baseline
    if subject.clock.is_gpu:
        torch.cuda.empty_cache()
    return rows


def conditions(device: torch.device, scale: Scale) -> dict[str, object]:
    try:
        common = machine()
    except OSError:  # no git there, which tells the commit
        common = {"python": sys.version.split()[0], "torch": torch.__version__}
    return common | {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "a trial without a GPU: no figure means anything",
        "cuda": torch.version.cuda,
        "triton": importlib.util.find_spec("triton") is not None,
        "kernels": "fused" if has_fused_ops(next(iter(scale.models.values()))[0].text, device) else "plain",
        "dtype": scale.dtype,
        "weights": "random, of the released sizes",
        "repeats": scale.repeats,
    }


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="only whether the results are the same")
    arguments.add_argument("--trial", action="store_true", help="toy size on a CPU; measures nothing")
    arguments.add_argument("--limit-s", type=float, default=LIMIT_S, help="parts for which no time is left are left out")
    chosen = arguments.parse_args()
    if not chosen.trial and not torch.cuda.is_available():
        print("left out: everything: torch sees no CUDA device here (--trial tries the program out on a CPU)")
        return 0
    device = torch.device("cpu" if chosen.trial else "cuda")
    scale = TRIAL if chosen.trial else FULL
    out = os.environ.get("OUT")
    folder = Path(out) if out else None if chosen.trial else ROOT / "bench/results"
    session = Session(folder / "gpu.json" if folder else None, chosen.limit_s, conditions(device, scale))
    print("\n".join(f"{name}: {value}" for name, value in session.conditions.items()), flush=True)
    session.run("check: tokens", 5, lambda: check(device))
    if has_fused_ops(next(iter(scale.models.values()))[0].text, device):
        session.run("check: kernels", 5, lambda: check_kernels(device))
    else:
        print("left out: check: kernels: Triton is not installed, or this is no GPU; the graphs hold torch's own operations")
    session.run("check: half precision", 5, lambda: check_half_precision(device))
    if not chosen.check:
        clock = Clock(device, scale.repeats)
        rate = copy_rate(clock)
        session.run("copy rate", 1, lambda: [row("H3", "large copy on the device, read and written", rate, "GB/s")])
        for name in scale.models:
            measure_model(session, scale, name, clock, rate)
    print(f"{len(session.rows)} figures in {time.monotonic() - session.begin_s:.0f} s")
    if session.path is not None:
        print(f"written to {session.path}")
    n_wrong = sum(made["id"] == "check" and made["met"] is False for made in session.rows)
    return 1 if session.n_broken or n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
