"""Which part of a known text was said in which stretch of speech, by what was heard in each.

Where text and hearing agree there is an anchor. What lies between the anchors around an edge between two stretches is divided
by how much was heard on either side of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import accumulate, pairwise


def divide(text: Sequence[str], heard: Sequence[Sequence[str]]) -> list[range]:
    """The units of the text for each stretch: all of them, in order, some stretches may get none.

    Units are compared without regard to case. Slow for thousands of them: seconds for an hour.
    """
    if not heard:
        raise ValueError("no stretches to divide the text among")
    flat = [unit.casefold() for stretch in heard for unit in stretch]
    matcher = SequenceMatcher(None, [unit.casefold() for unit in text], flat, autojunk=False)
    anchors = [(i + n, j + n) for i, j, size in matcher.get_matching_blocks() for n in range(size)]
    edges = list(accumulate(len(stretch) for stretch in heard))[:-1]
    cuts = [0, *(_cut(edge, anchors, len(text), len(flat)) for edge in edges), len(text)]
    return [range(first, last) for first, last in pairwise(cuts)]


def _cut(edge: int, anchors: Sequence[tuple[int, int]], n_text: int, n_heard: int) -> int:
    """Where in the text the units begin that were heard from `edge` on."""
    left_text, left_heard = max(((i + 1, j + 1) for i, j in anchors if j < edge), default=(0, 0))
    right_text, right_heard = min(((i, j) for i, j in anchors if j >= edge), default=(n_text, n_heard))
    before, after = edge - left_heard, right_heard - edge
    share = before / (before + after) if before + after else 0.5
    return left_text + round((right_text - left_text) * share)
