"""The engine's one thread: drain the inbox, schedule, run, publish; again and again.

Rules:

1. The thread owns the model and the scheduler. Others put messages into the inbox and hear what `publish` is given.
2. Every sequence that arrives is published as finished or failed exactly once, unless it departs first, or the thread ends.
3. A departure or a deadline takes effect before the next step: the sequence is in no later one and its places are free.
4. A step that raises is run again sequence by sequence; those that raise again fail, the others go on.
5. A step that is out of memory changes nothing but the next one, which is smaller (scheduler/steps.py, law 8).
6. When nothing succeeds any more, _BROKEN_AFTER tries in a row, the model is loaded anew and whoever is inside begins anew;
   without a success in between at most `policy.max_failures` times, each load tried as patiently as `policy` says. After that
   the thread ends with the reason.
7. Nothing is polled: without work the model may prepare itself further (`idle`), then the thread sleeps until a message comes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from asr_service.engine.inbox import Arrival, Departure, Forget, Inbox, Rest
from asr_service.engine.member import Member
from asr_service.engine.protocol import EngineFailed
from asr_service.engine.slot import StartPolicy
from asr_service.engine.step_model import StepModel, StepOutOfMemory, Token
from asr_service.engine.updates import Ended, News, Ready, Updates
from asr_service.errors import AsrError, DeadlineExceeded, EngineMemory, EngineRestarting, InternalError
from asr_service.metrics import Metrics
from asr_service.scheduler.plan import Gain, Sequence, StepPlan
from asr_service.scheduler.steps import StepLimits, StepScheduler

_log = logging.getLogger(__name__)

_BROKEN_AFTER = 3  # failures in a row
_HANG_PER_USUAL = 10.0  # a step may take so many times the longest one so far


class ModelBroken(Exception):
    """The model cannot be used and loading it anew does not help; the message says why."""


class _Closed(Exception):
    """The inbox was closed while the thread waited for something else."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The thread is inside the model since then; after `limit_s` it counts as hung."""

    since_s: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class _Done:
    """What of a step was done: its parts, their tokens, and those who failed."""

    plan: StepPlan
    tokens: dict[int, Token]
    failed: dict[int, AsrError]


class EngineLoop:
    """`run` is the thread's whole life. `publish` is called on it and must not block.

    `hang_limit_s` is the least time that a step may take; ten times the longest so far are allowed as well.
    """

    def __init__(
        self,
        model: StepModel,
        limits: StepLimits,
        publish: Callable[[News], None],
        *,
        metrics: Metrics,
        policy: StartPolicy,
        hang_limit_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inbox = Inbox()
        self.busy: Busy | None = None  # read by the watchdog
        self._model = model
        self._limits = limits
        self._publish = publish
        self._metrics = metrics
        self._policy = policy
        self._hang_limit_s = hang_limit_s
        self._clock = clock
        self._scheduler: StepScheduler | None = None  # None while the model is not loaded
        self._members: dict[int, Member] = {}
        self._updates = Updates()
        self._may_improve = False  # something may be left for when the model is idle
        self._longest_s = 0.0
        self._n_failures = 0  # runs that raised since the last that did not
        self._n_reloads = 0  # since the last run that did not raise

    def run(self) -> None:
        failure: str | None = None
        try:
            self._load()
            self._publish(Ready())
            while not self.inbox.is_closed:
                if not self.step() and not self.improve():
                    self.inbox.wait()
        except _Closed:
            pass
        except (EngineFailed, ModelBroken) as error:
            failure = str(error)
        except Exception as error:  # whatever it is, nobody may wait for a thread that has ended
            failure = str(error) or type(error).__name__
            _log.exception("the engine's thread ends")
        self._unload()
        self._publish(Ended(failure))

    def step(self) -> bool:
        """One round. False when there is nothing to do until a message comes."""
        self._drain()
        plan = self._plan()
        if not plan.is_empty:
            self._conclude(self._execute(plan))
        self._tell()
        return not plan.is_empty

    def improve(self) -> bool:
        """With nobody inside: what the model still has to prepare, a piece at a time. False when there is nothing (more)."""
        if self._scheduler is None or self._members or self._scheduler.kv_tokens_used or not self._may_improve:
            return False
        try:
            with self._watched(self._policy.start_limit_s):
                self._may_improve = self._model.idle()
        except Exception:
            _log.exception("the model could not prepare further; it serves as it is")
            self._may_improve = False
        return self._may_improve

    # Drain

    def _drain(self) -> None:
        for message in self.inbox.take():
            match message:
                case Arrival():
                    self._welcome(message)
                case Departure(uid):
                    self._leave(uid)
                case Forget(stream):
                    self._forget(stream)
                case Rest():
                    if not self._members:
                        self._unload()
        if self._scheduler is not None:
            now_s = self._clock()
            for sequence in self._scheduler.take_expired(now_s):
                self._fail(sequence.uid, _too_late(sequence, now_s))

    def _welcome(self, arrival: Arrival) -> None:
        scheduler = self._scheduler if self._scheduler is not None else self._load_patiently()
        uid = arrival.sequence.uid
        try:
            scheduler.submit(arrival.sequence, is_extra=arrival.is_extra)
        except AsrError as refusal:
            self._updates.failed[uid] = refusal
            return
        self._members[uid] = Member(arrival.sequence, arrival.prepared, arrival.wants_partials)
        if arrival.sequence.stream is not None and (kept := arrival.prepared.kept) is not None:
            self._metrics.engine_renewed_windows.inc(kept.n_renewed)
        self._open(uid)

    def _open(self, uid: int) -> None:
        """It is submitted; the model gets to know it."""
        assert self._scheduler is not None, "it is submitted"  # noqa: S101  # narrows the type
        member = self._members[uid]
        try:
            self._model.open(uid, member.prepared)
            if member.sequence.stream is not None:
                self._scheduler.skip_windows(uid, self._model.n_encoded(uid))
        except Exception as error:
            self._fail(uid, self._own_error(uid, error))

    # Schedule

    def _plan(self) -> StepPlan:
        if self._scheduler is None:
            return StepPlan()
        plan = self._scheduler.plan()
        for uid in plan.admitted:
            self._updates.started_s[uid] = self._clock()
        self._metrics.engine_evictions.inc(len(plan.evicted))
        return plan

    # Run

    def _execute(self, plan: StepPlan) -> _Done | None:
        """None when there was no memory for it."""
        try:
            return _Done(plan, self._run_model(plan), {})
        except StepOutOfMemory as error:
            self._relieve(plan, error)
            return None
        except Exception as error:
            return self._run_one_by_one(plan, error)

    def _run_model(self, plan: StepPlan) -> dict[int, Token]:
        limit_s = max(self._hang_limit_s, _HANG_PER_USUAL * self._longest_s)
        started_s = self._clock()
        with self._watched(limit_s):
            tokens = dict(self._model.run(plan))
        taken_s = self._clock() - started_s
        self._longest_s = max(self._longest_s, taken_s)
        self._metrics.engine_step_seconds.observe(taken_s)
        self._n_failures = self._n_reloads = 0
        return tokens

    def _relieve(self, plan: StepPlan, error: StepOutOfMemory) -> None:
        assert self._scheduler is not None, "a plan was made"  # noqa: S101  # narrows the type
        self._metrics.engine_failures.labels("memory").inc()
        _log.warning("a step of %d sequences is out of memory: %s", len(plan.uids), error)
        culprit = self._scheduler.relieve(plan)
        if culprit is not None:
            refusal = EngineMemory("the device has no memory for this segment, even alone", retry_after_s=1.0)
            self._fail(culprit.uid, refusal)

    def _run_one_by_one(self, plan: StepPlan, error: Exception) -> _Done:
        """Rule 4."""
        _log.error("a step of %d sequences failed and is tried one by one", len(plan.uids), exc_info=error)
        self._metrics.engine_failures.labels("step").inc()
        parts: list[StepPlan] = []
        tokens: dict[int, Token] = {}
        failed: dict[int, AsrError] = {}
        for uid in sorted(plan.uids):
            part = plan.only(uid)
            try:
                tokens |= self._run_model(part)
            except StepOutOfMemory as shortage:
                self._relieve(part, shortage)
            except Exception as own_error:
                self._n_failures += 1
                failed[uid] = self._own_error(uid, own_error)
            else:
                parts.append(part)
        if self._n_failures >= _BROKEN_AFTER:
            restarting = EngineRestarting("the model broke down and is being loaded anew", retry_after_s=1.0)
            failed = dict.fromkeys(failed, restarting)
        return _Done(StepPlan.union(parts), tokens, failed)

    def _own_error(self, uid: int, error: Exception) -> AsrError:
        if isinstance(error, StepOutOfMemory):
            return EngineMemory("the device has no memory for this segment", retry_after_s=1.0)
        self._metrics.engine_failures.labels("error").inc()
        _log.error("sequence %d failed", uid, exc_info=error)
        return InternalError("the recogniser could not handle this segment")

    # What came of it

    def _conclude(self, done: _Done | None) -> None:
        if done is None:
            return
        assert self._scheduler is not None, "a plan was made"  # noqa: S101  # narrows the type
        over, gains = self._accept(done)
        self._scheduler.complete(done.plan, over, gains)
        for uid in over:
            self._leave(uid)
        for uid, error in done.failed.items():
            self._fail(uid, error)
        self._count(done.plan, gains)
        if self._n_failures >= _BROKEN_AFTER:
            self._reload(f"{self._n_failures} runs of the model failed in a row")

    def _accept(self, done: _Done) -> tuple[list[int], dict[int, Gain]]:
        """Gives each reply its token, after those of its draft that are confirmed. Returns who is over, well or badly, and what
        drafts have brought."""
        over, gains = [], {}
        for item in done.plan.feed:
            if item.yields:
                member, token = self._members[item.uid], done.tokens[item.uid]
                try:
                    if item.n_draft:
                        gains[item.uid] = member.gain(item, token)
                    if self._is_over(member, token):
                        over.append(item.uid)
                except Exception as error:
                    self._updates.failed[item.uid] = self._own_error(item.uid, error)
                    over.append(item.uid)
        return over, gains

    def _is_over(self, member: Member, token: Token) -> bool:
        uid = member.sequence.uid
        finish = member.accept(token)
        if finish is not None:
            self._updates.finished[uid] = finish
        elif member.wants_partials and (text := member.prepared.reply.text) != member.text:
            member.text = self._updates.partials[uid] = text
        return finish is not None

    def _fail(self, uid: int, error: AsrError) -> None:
        """Nothing is kept of what may be the reason."""
        self._updates.failed[uid] = error
        self._leave(uid, keep=False)

    def _forget(self, stream: int) -> None:
        if self._scheduler is not None:
            self._scheduler.forget(stream)
        self._model.forget(stream)

    def _leave(self, uid: int, *, keep: bool = True) -> None:
        """Out of the scheduler and out of the model. Does nothing where it is gone already. `keep`: as for StepScheduler."""
        if self._scheduler is not None:
            self._scheduler.remove(uid, keep=keep)
        if self._members.pop(uid, None) is not None:
            try:
                self._model.close(uid)
            except Exception:
                _log.exception("the model could not close sequence %d", uid)

    # Publish

    def _tell(self) -> None:
        self._metrics.engine_kv_tokens.set(self._scheduler.kv_tokens_used if self._scheduler is not None else 0)
        self._metrics.engine_parked_tokens.set(self._scheduler.kv_tokens_parked if self._scheduler is not None else 0)
        if not self._updates.are_empty:
            self._publish(self._updates)
            self._updates = Updates()

    def _count(self, plan: StepPlan, gains: dict[int, Gain]) -> None:
        self._metrics.engine_steps.inc()
        self._metrics.engine_windows.inc(sum(item.count for item in plan.encode))
        self._metrics.engine_draft_tokens.labels("confirmed").inc(sum(gain.n_drafted for gain in gains.values()))
        self._metrics.engine_draft_tokens.labels("rejected").inc(sum(gain.n_rejected for gain in gains.values()))
        n_decode = sum(item.yields and item.count == 1 for item in plan.feed)
        self._metrics.engine_tokens.labels("decode").inc(n_decode)
        self._metrics.engine_tokens.labels("prefill").inc(sum(item.count for item in plan.feed) - n_decode)

    # The model coming and going

    def _load(self) -> StepScheduler:
        with self._watched(self._policy.start_limit_s):
            capacity = self._model.load()
        self._metrics.engine_loaded.set(1)
        self._scheduler = StepScheduler(self._limits, capacity.kv_tokens)
        self._may_improve = True
        return self._scheduler

    def _load_patiently(self) -> StepScheduler:
        failure = ""
        for n_failures in range(1, self._policy.max_failures + 1):
            try:
                return self._load()
            except Exception as error:
                failure = str(error) or type(error).__name__
            self._metrics.engine_failures.labels("start").inc()
            _log.warning("the model cannot be loaded (%d of %d): %s", n_failures, self._policy.max_failures, failure)
            if self.inbox.wait_closed(self._policy.backoff_s(n_failures)):
                raise _Closed
        raise ModelBroken(failure)

    def _reload(self, why: str) -> None:
        """Rule 6. Replies keep the tokens that they have."""
        self._metrics.engine_failures.labels("crash").inc()
        self._n_reloads += 1
        if self._n_reloads > self._policy.max_failures:
            raise ModelBroken(f"{why}, also after {self._policy.max_failures} loads")
        _log.error("%s; it is loaded anew", why)
        sequences = self._scheduler.clear() if self._scheduler is not None else []
        self._tell()
        self._unload()
        scheduler = self._load_patiently()
        self._n_failures = 0
        for sequence in sequences:
            try:
                scheduler.submit(sequence, is_extra=True)
            except AsrError as refusal:  # the new cache is smaller
                self._fail(sequence.uid, refusal)
            else:
                self._open(sequence.uid)

    def _unload(self) -> None:
        self._scheduler = None
        try:
            with self._watched(self._policy.start_limit_s):
                self._model.unload()
        except Exception:
            _log.exception("the model could not be unloaded")
        self._metrics.engine_loaded.set(0)

    @contextmanager
    def _watched(self, limit_s: float) -> Iterator[None]:
        self.busy = Busy(self._clock(), limit_s)
        try:
            yield
        finally:
            self.busy = None


def _too_late(sequence: Sequence, now_s: float) -> DeadlineExceeded:
    if sequence.n_encoded or sequence.n_generated:
        return DeadlineExceeded("the deadline passed while the segment was being recognised")
    return DeadlineExceeded(f"the deadline passed after {now_s - sequence.arrival_s:.3f} s in the queue")
