"""pocketsphinx on one segment at a time: samples in, words out, the same words for the same samples.

The recogniser normalises by the mean of the cepstra. Given a whole utterance in one call it takes the mean of all of it, and
reads clearly better than in live mode, where the mean is guessed at first. But one call cannot be interrupted. So each
segment goes through twice: a first pass only measures the mean (a search for silence, about 1 ms per second of audio), and a
second pass decodes in small blocks with the mean held at what was measured. The texts are those of the single call.

Both passes start from fresh features, because noise statistics would else leak from one segment into the next.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import pocketsphinx

BLOCK_BYTES = 3200  # 0.1 s of int16 at 16 kHz, 20 to 60 ms of work
SHORTEST_BYTES = 1600  # 50 ms; no word is shorter, and the library refuses less than one analysis window
_BYTES_PER_MS = 32
_FRAME_MS = 10
_MEASURE = "measure"
_SPEECH = re.compile(r"^(?!<|\[|\+)(.+?)(?:\(\d+\))?$")  # not <s>, <sil>, [NOISE], ++UM++; without the variant of "to(3)"
_SCANNED_PER_ALTERNATIVE = 50  # most n-best paths differ in silences and variants only


class SphinxDecoder:
    """The bundled en-US model, loaded in 0.25 s. Not thread-safe, and holds the GIL."""

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(samprate=16_000, loglevel="FATAL")
        self._initial_mean = self._decoder.get_cmn()
        silence = self._decoder.create_fsg(_MEASURE, 0, 1, [(0, 1, 1.0, "<sil>")])
        self._decoder.add_fsg(_MEASURE, silence)

    def decode(self, pcm: bytes, max_alternatives: int, between_blocks: Callable[[], None]) -> dict[str, Any]:
        """Recognises int16 little-endian mono at 16 kHz.

        `between_blocks` is called before each block; what it raises ends the decoding and comes through. Gives a JSON object:
        text; words: [[text, start_ms, end_ms, confidence], ...] from the start of `pcm`; alternatives: other texts, at most
        max_alternatives - 1, most likely first.
        """
        if len(pcm) < SHORTEST_BYTES:
            return {"text": "", "words": [], "alternatives": []}
        self._feed(pcm, self.measure(pcm), between_blocks)
        words = read_words(self._decoder, len(pcm) // _BYTES_PER_MS)
        text = " ".join(str(word[0]) for word in words)
        return {"text": text, "words": words, "alternatives": self._alternatives(text, max_alternatives - 1)}

    def align(self, pcm: bytes, words: Sequence[str], between_blocks: Callable[[], None]) -> list[list[int] | None]:
        """[start_ms, end_ms] of each of these words, which are what is said; None for those that the dictionary lacks, and for
        all when they do not fit the sound. `between_blocks` is as in `decode`."""
        known = [n for n, word in enumerate(words) if self._decoder.lookup_word(word) is not None]
        if not known or len(pcm) < SHORTEST_BYTES:
            return [None] * len(words)
        mean = self.measure(pcm)
        self._decoder.set_align_text(" ".join(words[n] for n in known))
        try:
            self._feed(pcm, mean, between_blocks)
            found = read_words(self._decoder, len(pcm) // _BYTES_PER_MS)
        finally:
            self._decoder.activate_search()
        if len(found) != len(known):
            return [None] * len(words)
        spans = {n: [int(start_ms), int(end_ms)] for n, (_, start_ms, end_ms, _) in zip(known, found, strict=True)}
        return [spans.get(n) for n in range(len(words))]

    def measure(self, pcm: bytes) -> str:
        """The mean of the cepstra of all of it, in the decoder's own notation."""
        decoder = self._decoder
        decoder.activate_search(_MEASURE)
        try:
            decoder.reinit_feat()
            decoder.set_cmn(self._initial_mean)
            decoder.start_utt()
            decoder.process_raw(pcm, True, True)
            mean: str = decoder.get_cmn()
            decoder.end_utt()
        finally:
            decoder.activate_search()
        return mean

    def _feed(self, pcm: bytes, mean: str, between_blocks: Callable[[], None]) -> None:
        decoder = self._decoder
        decoder.reinit_feat()
        decoder.start_utt()
        try:
            for start in range(0, len(pcm), BLOCK_BYTES):
                between_blocks()
                decoder.set_cmn(mean)  # else live mode would move it
                decoder.process_raw(pcm[start : start + BLOCK_BYTES], False, False)
            between_blocks()
        finally:
            decoder.end_utt()

    def _alternatives(self, best: str, n_wanted: int) -> list[str]:
        if n_wanted < 1:
            return []
        texts = {best: None}  # a set that remembers the order
        for path in itertools.islice(self._decoder.nbest() or (), _SCANNED_PER_ALTERNATIVE * n_wanted):
            if path is not None and path.hypstr:
                texts.setdefault(path.hypstr)
            if len(texts) > n_wanted:
                break
        return list(texts)[1:]


def read_words(decoder: pocketsphinx.Decoder, duration_ms: int) -> list[list[str | int | float]]:
    """[text, start_ms, end_ms, confidence] of each word in what the decoder was given, which lasts `duration_ms`."""
    words: list[list[str | int | float]] = []
    end_ms = 0
    for segment in decoder.seg() or ():
        if spoken := _SPEECH.match(segment.word):
            start_ms = max(end_ms, segment.start_frame * _FRAME_MS)
            end_ms = max(start_ms + 1, min(duration_ms, (segment.end_frame + 1) * _FRAME_MS))
            # `prob` is a plain posterior in this binding, a hair above 1 at times.
            words.append([spoken[1], start_ms, end_ms, min(1.0, max(0.0, segment.prob))])
    return words
