"""Freed memory is kept, so that a step finds its pages where the last one left them. In a process of its own: it stays so."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from asr_service.model.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(4 << 20)  # 16 MiB, 4096 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
assert keep_freed_memory()
faults()  # grows the heap
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is meant")
def test_large_blocks_are_not_faulted_in_again_and_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    by_default, kept = map(int, done.stdout.split())
    assert by_default > 1000
    assert kept < by_default / 20


RELEASING = """
import gc, psutil, sys, torch
from asr_service.model.allocator import give_back_freed_memory, keep_freed_memory

def used_mib():
    return psutil.Process().memory_info().rss / 2**20

assert keep_freed_memory()
before = used_mib()
blocks = [torch.zeros(1 << 20) for _ in range(64)]  # 4 MiB each
kept = torch.zeros(1 << 10)
del blocks
held = used_mib() - before
give_back_freed_memory()
print(round(held), round(used_mib() - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is meant")
def test_it_goes_back_when_it_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", RELEASING], capture_output=True, text=True, check=True)

    held_mib, left_mib = map(int, done.stdout.split())
    assert held_mib > 200
    assert left_mib < 20
