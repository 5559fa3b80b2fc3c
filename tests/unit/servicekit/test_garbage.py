"""What the garbage collector is told of a server."""

import gc
import weakref

import pytest
from servicekit.garbage import collect_rarely, settle


class Cycle:
    """Refers to itself: only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_there_is_left_out_of_collections_and_freed_when_there_is_a_change() -> None:
    cycle = Cycle()
    left = weakref.ref(cycle)
    try:
        settle()
        assert gc.get_freeze_count() > 1000
        del cycle
        gc.collect()
        assert left() is not None
        settle()
        assert left() is None
    finally:
        gc.unfreeze()


def test_what_workers_share_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/of/several/workers")
    ours = Cycle()
    left = weakref.ref(ours)
    try:
        gc.freeze()
        del ours
        settle()
        assert left() is not None
        later = weakref.ref(Cycle())
        settle()
        assert later() is None, "what came after is"
    finally:
        gc.unfreeze()


def test_collections_are_rare_in_a_worker() -> None:
    before = gc.get_threshold()
    try:
        collect_rarely()
        assert gc.get_threshold() == (5000, *before[1:])
    finally:
        gc.set_threshold(*before)
