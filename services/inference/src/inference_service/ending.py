"""The end of the service, for work on threads that takes minutes: nothing can cancel a thread."""

import threading


class ServiceEnds(Exception):
    """What was going on is given up, as the service ends."""


class Ending:
    """Tells threads that the service ends."""

    def __init__(self) -> None:
        self._has_begun = threading.Event()

    def begin(self) -> None:
        """Let all work be given up that asks."""
        self._has_begun.set()

    def check(self) -> None:
        """Go on.

        Raises:
            ServiceEnds: the service ends.
        """
        self.sleep(0)

    def sleep(self, seconds: float) -> None:
        """Go on in so many seconds.

        Raises:
            ServiceEnds: the service ends, also while it slept.
        """
        if self._has_begun.wait(seconds):
            raise ServiceEnds
