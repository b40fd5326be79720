"""pocketsphinx on a stretch that is still growing: each sample is decoded once, and after each piece there is a text so far.

Only the library's first pass is made. The second and the third, which the texts of SphinxDecoder come from, need the end of the
utterance. They mend about a third of the first pass's errors, so a text so far is rougher than what is recognised in the end.

The mean of the cepstra of all of the stretch cannot be known yet. Each new piece is measured before it is decoded, and decoded
with the mean of all that has come so far; first passes with the mean of the whole stretch read no better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pocketsphinx

from asr_service.engines.pocketsphinx_decoder import BLOCK_BYTES, SHORTEST_BYTES, SphinxDecoder, read_words

_BYTES_PER_MS = 32


class SphinxListener:
    """One growing stretch at a time. 100 MB, loaded in 0.22 s. `measurer` may decode other things between two calls."""

    def __init__(self, measurer: SphinxDecoder) -> None:
        self._measurer = measurer
        self._decoder = pocketsphinx.Decoder(samprate=16_000, loglevel="FATAL", fwdflat=False, bestpath=False)
        self._is_listening = False
        self._begin()

    def _begin(self) -> None:
        self._n_measured = 0  # bytes of the stretch
        self._n_decoded = 0
        self._sum: list[float] = []  # of the means, each times the bytes that it was measured on

    def hear(self, pcm: bytes, *, start: int, is_new: bool, between_blocks: Callable[[], None]) -> dict[str, Any]:
        """Takes in int16 little-endian mono at 16 kHz and says what was said so far.

        `pcm` begins `start` bytes into the stretch, at most where the last answer said that it had heard all; what is known
        already is skipped. `is_new`: of another stretch than before. `between_blocks` is as in SphinxDecoder.decode; what was
        decoded before it raised is kept. Gives what SphinxDecoder.decode gives, without confidences and alternatives, and
        `heard`: the bytes of the stretch that need not be sent again. Less than 50 ms is left for the next time.
        """
        if is_new:
            self._restart()
        self._measure(pcm[self._n_measured - start :])
        if self._n_measured > self._n_decoded:
            self._decode(pcm[self._n_decoded - start : self._n_measured - start], between_blocks)
        words = [[text, start_ms, end_ms, None] for text, start_ms, end_ms, _ in self._words()]
        return {"text": " ".join(str(word[0]) for word in words), "words": words, "alternatives": [], "heard": self._n_decoded}

    def _restart(self) -> None:
        if self._is_listening:
            self._decoder.end_utt()
            self._is_listening = False
        self._begin()

    def _measure(self, pcm: bytes) -> None:
        if len(pcm) < SHORTEST_BYTES:
            return
        mean = [float(number) for number in self._measurer.measure(pcm).split(",")]
        before = self._sum or [0.0] * len(mean)
        self._sum = [total + value * len(pcm) for total, value in zip(before, mean, strict=True)]
        self._n_measured += len(pcm)

    def _decode(self, pcm: bytes, between_blocks: Callable[[], None]) -> None:
        decoder = self._decoder
        if not self._is_listening:
            decoder.reinit_feat()
            decoder.start_utt()
            self._is_listening = True
        mean = ",".join(f"{total / self._n_measured:.2f}" for total in self._sum)
        for offset in range(0, len(pcm), BLOCK_BYTES):
            between_blocks()
            block = pcm[offset : offset + BLOCK_BYTES]
            decoder.set_cmn(mean)  # else live mode would move it
            decoder.process_raw(block, False, False)
            self._n_decoded += len(block)

    def _words(self) -> list[list[Any]]:
        return read_words(self._decoder, self._n_decoded // _BYTES_PER_MS) if self._is_listening else []
