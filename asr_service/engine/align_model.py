"""The seam between the aligner's queue and the network that computes times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asr_service.request import Samples


class PreparedPiece(Protocol):
    """One piece of audio with the units that are said in it, as the model reads them."""

    @property
    def n_tokens(self) -> int:
        """What it costs: its rows in the decoder."""
        ...


class AlignModel(Protocol):
    """Gives times to words that are known. `load`, `run` and `unload` are called on one thread, `prepare` on any."""

    @property
    def reach_ms(self) -> int:
        """The longest audio that there are times for."""
        ...

    def load(self) -> None:
        """Returns when warm. Raises EngineFailed when it cannot be."""
        ...

    def unload(self) -> None:
        """Gives the memory back. Idempotent."""
        ...

    def prepare(self, samples: Samples, units: Sequence[str]) -> PreparedPiece:
        """Raises InvalidValue when this is more than the model reads at once."""
        ...

    def run(self, pieces: Sequence[PreparedPiece]) -> list[tuple[int, ...]]:
        """For each piece begin and end of each unit in turn, in ms from its first sample, just as the network says them: they
        may go back, stand still, or lie beyond the end. A piece gets the same times alone and among others. Raises
        AlignerOutOfMemory when there is no room for so many pieces at once."""
        ...


class AlignerOutOfMemory(Exception):
    """The device has no room for these pieces together."""
