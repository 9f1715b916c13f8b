"""A rate limiter: a token bucket that holds as many tokens as are added per second."""

from __future__ import annotations


class RateLimiter:
    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.tokens = per_second
        self.last: float | None = None

    def allow(self, now: float) -> bool:
        """Whether one more event is allowed at `now`, in seconds of a monotonic clock."""
        if self.last is not None:
            self.tokens = min(self.per_second, self.tokens + (now - self.last) * self.per_second)
        self.last = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
