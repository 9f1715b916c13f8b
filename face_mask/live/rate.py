"""A rate limiter: a token bucket, which by default holds as many tokens as are added per second."""

from __future__ import annotations


class RateLimiter:
    def __init__(self, per_second: float, burst: float | None = None) -> None:
        """`burst` events are allowed at once, at least 1; default: those of one second."""
        self.per_second = per_second
        self.tokens = self.burst = per_second if burst is None else burst
        self.last: float | None = None

    def allow(self, now: float) -> bool:
        """Whether one more event is allowed at `now`, in seconds of a monotonic clock."""
        if self.last is not None:
            self.tokens = min(self.burst, self.tokens + (now - self.last) * self.per_second)
        self.last = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
