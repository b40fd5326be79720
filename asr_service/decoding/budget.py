"""How many tokens a reply may have."""

from __future__ import annotations

import math

TOKENS_PER_S = 8
"""More than anybody says: fast speech needs about 4 to 5 tokens a second."""

HEADER_TOKENS = 32
"""Room for the language header, and for short audio."""


def token_budget(duration_s: float, limit: int = 0) -> int:
    """For speech of this length; `limit` (MAX_NEW_TOKENS) caps it when it is above 0."""
    budget = math.ceil(TOKENS_PER_S * duration_s) + HEADER_TOKENS
    return min(budget, limit) if limit > 0 else budget
