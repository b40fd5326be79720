"""The prompt of Qwen3-ASR as token ids.

    <|im_start|>system
    {context}<|im_end|>
    <|im_start|>user
    <|audio_start|>{audio}<|audio_end|><|im_end|>
    <|im_start|>assistant
    language {name}<asr_text>          only where the language is forced; else the model writes this line itself

Special tokens split text, so what stands between two of them is encoded in one piece, the context together with "system\\n".
The reference package writes the prompt as text first, and a context that spells a special token becomes one there; here it
stays text.
"""

from __future__ import annotations

from dataclasses import dataclass

from asr_service.errors import InvalidValue
from asr_service.model.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """The ids before and after the audio tokens."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def check_fits(self, n_audio: int, n_reply: int, max_positions: int) -> None:
        """Raises InvalidValue when prompt, audio tokens and reply together are more than the model has positions for."""
        room = max_positions - n_audio - n_reply
        n_tokens = len(self.before) + len(self.after)
        if n_tokens > room:
            raise InvalidValue.of(
                "config.context",
                f"the prompt with context and phrases has {n_tokens} tokens; the model takes {max(0, room)} "
                f"beside {n_audio} of audio and {n_reply} of text",
            )


class PromptBuilder:
    """May be used from any thread. Raises EngineFailed when the tokenizer lacks a token that the prompt needs."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encode = tokenizer.encode
        self._turn, self._end = tokenizer.special("<|im_start|>"), tokenizer.special("<|im_end|>")
        self._audio, self._audio_end = tokenizer.special("<|audio_start|>"), tokenizer.special("<|audio_end|>")
        self._text_tag = tokenizer.special("<asr_text>")
        self._line = tokenizer.encode("\n")
        self._user = tokenizer.encode("user\n")

    def build(self, context: str, language_name: str | None) -> Prompt:
        """`language_name`: in English, such as "German", None where the model shall find out."""
        before = (self._turn, *self._encode(f"system\n{context}"), self._end, *self._line, self._turn, *self._user, self._audio)
        header = f"language {language_name}" if language_name else ""
        answer = self._encode(f"assistant\n{header}")
        tag = (self._text_tag,) if language_name else ()
        return Prompt(before, (self._audio_end, self._end, *self._line, self._turn, *answer, *tag))
