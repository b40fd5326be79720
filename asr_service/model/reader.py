"""From a Work to what the model reads of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from asr_service.decoding.draft import NO_DRAFT
from asr_service.decoding.prompt_context import prompt_context
from asr_service.engine.step_model import Kept, Round
from asr_service.model.config import AudioConfig, ModelConfig
from asr_service.model.features import n_tokens, windows_of
from asr_service.model.growing import GrowingSpeech, Grown
from asr_service.model.mel import MelExtractor
from asr_service.model.prepared import MakeReply, PreparedSpeech
from asr_service.model.prompt import Prompt, PromptBuilder
from asr_service.request import Work
from asr_service.scheduler.plan import Station


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """What `prepare` needs. It is small, and stays when the model is unloaded.

    `live_window_chunks`: the encoder's window in seconds for stretches that grow; never longer than the checkpoint's own.
    """

    config: ModelConfig
    mel: MelExtractor
    prompts: PromptBuilder
    make_reply: MakeReply
    live_window_chunks: int

    def audio(self, turn: Round | None) -> AudioConfig:
        """How the sound of a round, or of anything else, is cut into windows."""
        if turn is None:
            return self.config.audio
        chunks = min(self.live_window_chunks, self.config.audio.window_chunks)
        return replace(self.config.audio, window_chunks=chunks)

    def prepare(self, work: Work, turn: Round | None) -> PreparedSpeech:
        """See StepModel."""
        language = work.options.language
        prompt = self.prompts.build(prompt_context(work.options), language.name if language else None)
        with torch.inference_mode():
            grown = self._take(work, turn, prompt)
        n_audio = sum(n_tokens(window.n_frames, self.config.audio) for window in grown.windows)
        budgeted = self.make_reply(work)
        prompt.check_fits(n_audio, budgeted.max_new_tokens, self.config.text.max_positions)
        draft = NO_DRAFT
        if turn is not None and work.options.temperature <= 0:  # what is drawn by lot cannot be foreseen
            draft = turn.draft.within(budgeted.max_new_tokens)
            if turn.memory.may_pin(turn, goes_on=grown.goes_on):
                draft.pin(budgeted.reply)
        return PreparedSpeech(
            windows=grown.windows,
            n_audio_tokens=n_audio,
            prompt=prompt,
            reply=budgeted.reply,
            max_new_tokens=budgeted.max_new_tokens,
            temperature=work.options.temperature,
            draft=draft,
            window_tokens=self.audio(turn).window_tokens,
            kept=None if turn is None else self._kept(turn, grown, prompt),
        )

    def _kept(self, turn: Round, grown: Grown, prompt: Prompt) -> Kept:
        """A station behind each closed window."""
        n_before, per_window = len(prompt.before), self.audio(turn).window_tokens
        stations = (Station(n_before + n * per_window, version) for n, version in enumerate(grown.versions, start=1))
        return Kept(turn.stream, tuple(stations), grown.n_renewed)

    def _take(self, work: Work, turn: Round | None, prompt: Prompt) -> Grown:
        samples, audio = work.speech.samples, self.audio(turn)
        if turn is None:
            return Grown(windows_of(samples, self.mel, audio))
        if not isinstance(turn.memory, GrowingSpeech):
            raise TypeError(f"remembered by another model: {type(turn.memory).__name__}")
        return turn.memory.take(samples, prompt.before, self.mel, audio, is_exact=turn.is_exact)
