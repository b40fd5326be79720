"""What one step may do, and how that shrinks when a device is out of memory."""

from __future__ import annotations

from dataclasses import dataclass

from asr_service.scheduler.plan import StepPlan

LEAST_TOKENS = 16
"""No step feeds less of a prompt, whatever the budget."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a step may do now; less than the limits after an out-of-memory."""

    rows: int
    tokens: int
    windows: int

    def after_failure_of(self, plan: StepPlan) -> Budget:
        """Half of what was too much."""
        n_tokens = sum(item.count for item in plan.feed)
        n_windows = sum(item.count for item in plan.encode)
        return Budget(
            rows=max(1, len(plan.uids) // 2),
            tokens=max(LEAST_TOKENS, n_tokens // 2) if n_tokens else self.tokens,
            windows=max(1, n_windows // 2) if n_windows else self.windows,
        )

    def doubled(self, limit: Budget) -> Budget:
        return Budget(min(limit.rows, 2 * self.rows), min(limit.tokens, 2 * self.tokens), min(limit.windows, 2 * self.windows))
