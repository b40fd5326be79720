"""What a live session says, and when."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from asr_service.errors import InvalidValue
from asr_service.request import Cursors, Hypothesis, Quality, ms_to_samples
from asr_service.session.events import (
    Decide,
    Decided,
    Ended,
    EndReason,
    Final,
    Guess,
    MarkerReached,
    SpeechEventType,
    SpeechNoticed,
    Throttled,
)
from asr_service.session.settings import EndpointMode
from tests.unit.session.rooms import Room, settings

_START, _STOP, _END = SpeechEventType.START, SpeechEventType.STOP, SpeechEventType.END
_EAGER, _RESUMED, _TIMEOUT = SpeechEventType.EAGER_END, SpeechEventType.RESUMED, SpeechEventType.TIMEOUT


def test_an_utterance_is_noticed_guessed_and_decided() -> None:
    room = Room().hear("." * 20).hear("#" * 60).hear("." * 30)

    assert room.noticed() == [_START, _STOP, _END]
    assert room.partials
    assert len(room.finals) == 1
    assert room.texts[0].startswith(room.partials[-1].committed)


def test_minutes_of_silence_lead_to_no_wish() -> None:
    room = Room()
    for _ in range(60):
        room.hear("." * 100)

    assert room.finish().wishes == []
    assert room.session.is_over


def test_a_click_is_no_utterance() -> None:
    room = Room().hear("...###" + "." * 40).finish()

    assert room.wishes == []
    assert room.noticed() == []


def test_the_first_guess_comes_with_the_start_and_holds_the_padding_before_it() -> None:
    room = Room(answers=False).hear("." * 40).hear("#" * 8)

    assert room.noticed() == [_START]
    wish = room.wishes[0]
    assert isinstance(wish, Guess)
    assert wish.speech.start_ms == 40 * 32 - 300
    assert len(wish.speech.samples) == 48 * 512 - ms_to_samples(wish.speech.start_ms)


def test_while_a_wish_is_out_there_is_no_other_and_then_the_next_has_everything() -> None:
    room = Room(answers=False).hear("#" * 20).hear("#" * 20).hear("#" * 20)
    assert len(room.wishes) == 1

    room.answer(0)

    assert len(room.wishes) == 2
    assert len(room.wishes[1].speech.samples) == 60 * 512


def test_the_final_is_decided_in_the_pause_and_said_at_its_end() -> None:
    room = Room().hear("#" * 40).hear("." * 10)
    early = room.wishes[-1]
    assert isinstance(early, Decide)
    assert early.is_early
    assert room.finals == []
    n_wishes = len(room.wishes)

    room.hear("." * 10)

    assert len(room.wishes) == n_wishes
    assert len(room.finals) == 1
    assert np.array_equal(room.finals[0].result.speech.samples, early.speech.samples)


def test_a_pause_that_does_not_last_is_part_of_the_utterance() -> None:
    room = Room().hear("#" * 40 + "." * 10 + "#" * 40 + "." * 20)

    assert room.noticed() == [_START, _STOP, _STOP, _END]
    assert len(room.finals) == 1
    assert len(room.finals[0].result.speech.samples) == 90 * 512 + ms_to_samples(200)


def test_a_decision_that_is_late_is_waited_for() -> None:
    room = Room(answers=False).hear("#" * 40)
    room.answer(0)
    room.hear("." * 20)
    assert room.finals == []

    room.answer(0, "at last")

    assert room.texts == ["at last"]


def test_a_missed_decision_is_asked_for_again_when_the_utterance_has_ended() -> None:
    room = Room(answers=False).hear("#" * 40).hear("." * 20)
    assert isinstance(room.waiting[0], Decide)

    room.miss(0)

    again = room.waiting[0]
    assert isinstance(again, Decide)
    assert not again.is_early


def test_a_missed_early_decision_is_not_asked_for_again_in_the_same_pause() -> None:
    room = Room(answers=False).hear("#" * 40).hear("." * 8)
    n_wishes = len(room.wishes)

    room.miss(0)
    room.hear("..")

    assert len(room.wishes) == n_wishes


def test_an_answer_to_a_wish_that_was_replaced_is_ignored() -> None:
    room = Room(answers=False).hear("#" * 40)
    old = room.wishes[0]
    room.hear("." * 20)
    room.take(room.session.guessed(old.ticket, Hypothesis("stale", None), room.now_s))

    assert room.partials == []
    room.answer(0, "right")
    assert room.texts == ["right"]


def test_an_eager_end_comes_with_the_text_that_the_end_has() -> None:
    room = Room(settings(eager_silence_ms=256)).hear("#" * 40).hear("." * 9)
    assert room.noticed() == [_START, _STOP, _EAGER]
    shown = room.partials[-1]

    room.hear("." * 10)

    assert room.noticed()[-1] is _END
    assert room.texts == [shown.committed + shown.tail]


def test_an_eager_end_is_taken_back_when_speech_goes_on() -> None:
    room = Room(settings(eager_silence_ms=256)).hear("#" * 40).hear("." * 9).hear("###")
    room.hear("." * 9).hear("." * 11)

    assert room.noticed() == [_START, _STOP, _EAGER, _RESUMED, _STOP, _EAGER, _END]


def test_an_eager_end_waits_for_its_text_and_is_left_out_when_the_end_is_there_first() -> None:
    room = Room(settings(eager_silence_ms=256), answers=False).hear("#" * 40)
    room.answer(0)
    room.hear("." * 12)
    assert _EAGER not in room.noticed()

    room.hear("." * 8)
    room.answer(0)

    assert _EAGER not in room.noticed()
    assert len(room.finals) == 1


def test_text_of_a_later_utterance_is_held_until_the_final_before_it() -> None:
    room = Room(answers=False).hear("#" * 40).hear("." * 20).hear("#" * 40)
    room.answer(1, "second")
    assert room.partials == []

    room.answer(0, "first")

    final, partial = [event for event in room.events if not isinstance(event, SpeechNoticed | Decided | Throttled)]
    assert isinstance(final, Final)
    assert final.result.index == 0
    assert partial == room.partials[0]
    assert partial.utterance == 1


def test_flush_ends_the_utterance_and_the_session_goes_on() -> None:
    room = Room().hear("#" * 40)
    room.flush()
    room.hear("#" * 40).finish()

    assert [final.result.index for final in room.finals] == [0, 1]
    first, second = (final.result.speech for final in room.finals)
    assert first.end_ms <= second.start_ms + 1
    assert len(first.samples) + len(second.samples) == 80 * 512


def test_with_an_external_endpointer_only_a_flush_ends_an_utterance() -> None:
    room = Room(settings(mode=EndpointMode.EXTERNAL)).hear("#" * 40).hear("." * 100).hear("#" * 40)
    assert room.finals == []

    room.flush()

    assert len(room.finals) == 1


def test_an_external_pause_costs_one_wish_however_long_it_is() -> None:
    room = Room(settings(mode=EndpointMode.EXTERNAL)).hear("#" * 40).hear("." * 10)
    n_wishes = len(room.wishes)

    room.hear("." * 500)

    assert len(room.wishes) == n_wishes


def test_off_recognises_everything_and_cuts_at_the_maximum() -> None:
    room = Room(settings(mode=EndpointMode.OFF, max_utterance_ms=5000)).hear("." * 400).finish()

    speeches = [final.result.speech for final in room.finals]
    assert sum(len(speech.samples) for speech in speeches) == 400 * 512
    assert all(speech.duration_ms <= 5000 for speech in speeches)


def test_a_marker_waits_for_what_was_said_before_it() -> None:
    room = Room(answers=False).hear("#" * 40)
    room.take(room.session.mark("m", room.now_s))
    room.hear("." * 20)
    assert MarkerReached("m") not in room.events

    room.answer(0)

    assert room.events.index(MarkerReached("m")) > room.events.index(room.finals[0])


def test_a_marker_in_silence_is_reached_at_once() -> None:
    room = Room().hear("." * 40)
    room.take(room.session.mark("m", room.now_s))

    assert MarkerReached("m") in room.events


def test_the_end_comes_last_and_once() -> None:
    room = Room(answers=False).hear("#" * 40).finish()
    assert not room.session.is_over

    room.answer(0)
    room.finish()

    assert room.events[-1] == Ended(EndReason.FINISHED)
    assert room.events.count(Ended(EndReason.FINISHED)) == 1


def test_without_speech_the_start_timeout_ends_the_session() -> None:
    room = Room(settings(start_timeout_ms=1000)).hear("." * 40)

    assert room.noticed() == [_TIMEOUT]
    assert room.events[-1] == Ended(EndReason.START_TIMEOUT)


def test_silence_after_speech_ends_the_session_when_it_is_idle_for_too_long() -> None:
    room = Room(settings(idle_timeout_ms=2000)).hear("#" * 40).hear("." * 50)
    assert not room.session.is_over

    room.hear("." * 40)

    assert len(room.finals) == 1
    assert room.events[-1] == Ended(EndReason.IDLE_TIMEOUT)


def test_a_client_that_sends_nothing_is_idle_by_the_wall_clock() -> None:
    room = Room(settings(idle_timeout_ms=2000)).hear("#" * 40)
    assert room.session.next_tick_s == room.now_s + 2.0

    room.now_s += 2.0
    room.take(room.session.tick(room.now_s))

    assert len(room.finals) == 1
    assert room.events[-1] == Ended(EndReason.IDLE_TIMEOUT)


def test_slow_rounds_make_the_next_ones_rarer_and_the_client_is_told() -> None:
    room = Room(answers=False).hear("#" * 40)
    for _ in range(4):
        room.now_s += 3.0
        room.answer(0)
        room.hear("#" * 160)

    throttled = [event for event in room.events if isinstance(event, Throttled)]
    assert throttled
    assert throttled[-1].interval_ms > 500


def test_a_patch_changes_the_interval_at_once_and_the_options_of_the_next_utterance() -> None:
    room = Room(settings(interval_ms=5000)).hear("#" * 40)
    n_wishes = len(room.wishes)
    room.take(room.session.patch(room.now_s, settings=settings(interval_ms=100)))
    room.hear("#" * 4)

    assert len(room.wishes) > n_wishes


def test_the_silence_that_ends_an_utterance_can_be_patched_for_the_next_one() -> None:
    room = Room().hear("#" * 40)
    room.take(room.session.patch(room.now_s, settings=settings(silence_ms=2000)))
    room.hear("." * 17)
    assert len(room.finals) == 1

    room.hear("#" * 40 + "." * 50)

    assert len(room.finals) == 1


def test_detection_cannot_be_patched_off() -> None:
    room = Room()

    with pytest.raises(InvalidValue, match=r"endpointing\.mode"):
        room.session.patch(room.now_s, settings=settings(mode=EndpointMode.OFF))


def test_without_partials_only_finals_are_said() -> None:
    room = Room(settings(enabled=False)).hear("#" * 100).hear("." * 20)

    assert room.partials == []
    assert len(room.finals) == 1


def test_the_cursors_end_where_the_audio_does() -> None:
    room = Room().hear("#" * 50).finish()

    assert room.session.cursors == Cursors(1600, 1600, 1600)


def test_a_session_without_time_ends_with_what_is_known() -> None:
    room = Room(answers=False).hear("#" * 40)
    room.answer(0, "turn on")
    room.hear("#" * 40 + "." * 30 + "#" * 40)
    room.take(room.session.truncate(EndReason.DEADLINE, room.now_s))
    late = room.wishes[-1]
    room.take(room.session.decided(late.ticket, Hypothesis("too late", None), room.now_s))

    assert room.texts == ["turn on", ""]
    assert all(Quality.TRUNCATED in final.result.hypothesis.flags for final in room.finals)
    assert room.events[-1] == Ended(EndReason.DEADLINE)
    assert room.session.is_over


def test_an_hour_without_a_pause_is_cut_and_nothing_piles_up() -> None:
    room = Room(settings(enabled=False))
    for _ in range(60 * 60 // 32):
        room.hear("#" * 1000)
        assert room.session.n_undecided <= 1
        assert len(room.session._endpointer.speech().samples) <= ms_to_samples(60_000)  # what is held
    room.finish()
    speeches = [final.result.speech for final in room.finals]

    assert all(speech.duration_ms <= 60_000 for speech in speeches)
    assert all(after.start_ms == before.end_ms for before, after in pairwise(speeches))
    assert sum(speech.duration_ms for speech in speeches) == pytest.approx(60 * 60 // 32 * 32_000, abs=500)
