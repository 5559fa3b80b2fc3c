"""Python's garbage collector, set up for a server: it looks for cycles, and what a service does leaves next to none."""

import atexit
import gc

_NEW_OBJECTS = 5000
"""So many more containers made than freed start a collection. Each request that waits holds some hundreds, so that with
Python's 700 there is one every few requests, to find nothing (measured: a third of the event loop's time)."""


def collect_rarely() -> None:
    """Let this process collect only what could be worth it."""
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])


def settle() -> None:
    """Collect all there is, and leave what remains out of further collections: it is there to stay.

    A collection of all stops every thread; with torch there are a quarter of a million objects, and it takes 0.1 s.
    What was left out before is looked at once more: but for what the master of several workers has left out for good,
    since a look at it copies the memory that they share.
    """
    from servicekit.metrics import is_shared  # its variable is not set when gunicorn imports this

    if is_shared():
        gc.collect()
        return
    gc.unfreeze()
    gc.collect()
    gc.freeze()


atexit.register(gc.unfreeze)  # the interpreter takes all apart at its end, and some libraries count what is left
