"""How often may somebody come? A bucket of tokens: as many as a second's worth at once, then so many a second."""

from __future__ import annotations


class Rate:
    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.tokens = per_second
        self.last: float | None = None

    def allows(self, now: float) -> bool:
        """Whether one more is allowed at the time `now`, in seconds of a clock that never goes back."""
        if self.last is not None:
            self.tokens = min(self.per_second, self.tokens + (now - self.last) * self.per_second)
        self.last = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
