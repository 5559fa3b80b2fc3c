"""Time that passes when a test says so."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Stands still, at a time in seconds, until it is moved."""

    now: float

    def __call__(self) -> float:
        """Return the time."""
        return self.now
