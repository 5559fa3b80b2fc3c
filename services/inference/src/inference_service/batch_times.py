"""How long batches take, by what they have taken."""

import math
import time
from weakref import WeakKeyDictionary

from inference_service.model import Model

OLD_SECONDS = 60.0
"""A model that has computed nothing for so long may have become faster: a shorter time then counts at once."""


class MovingAverage:
    """Follows a value: up in a few steps, down in many, so that it is seldom too low."""

    UP, DOWN = 0.5, 0.1

    def __init__(self, first: float) -> None:
        self.value = first

    def add(self, value: float) -> None:
        """Take one more value in."""
        self.value += (value - self.value) * (self.UP if value > self.value else self.DOWN)


class BatchTimes:
    """The times of the batches of each model, by their size: first those of its warm-up."""

    def __init__(self, max_batch_size: int) -> None:
        self._max_batch_size = max_batch_size
        # The times of a model that is gone go with it.
        self._last_at: WeakKeyDictionary[Model, float] = WeakKeyDictionary()
        self._any_last_at = -math.inf
        self._seconds: WeakKeyDictionary[Model, dict[int, MovingAverage]] = WeakKeyDictionary()

    def add(self, model: Model, rows: int, seconds: float) -> None:
        """Take in what one batch took."""
        was_old = self.are_old(model)
        self._last_at[model] = self._any_last_at = time.monotonic()
        known = self._known(model)
        if rows in known and not (was_old and seconds < known[rows].value):
            known[rows].add(seconds)
        else:
            known[rows] = MovingAverage(seconds)
        for size, average in known.items():
            if size > rows:
                # A larger batch takes no longer than several of this size. Without this bound one that was slow by
                # chance could keep out every request of its size, and no other batch would correct it.
                average.value = min(average.value, known[rows].value * size / rows)

    def silent_seconds(self, model: Model | None = None) -> float:
        """Return how long ago the last batch of `model`, or of any, ended; infinite where there was none."""
        return time.monotonic() - (self._any_last_at if model is None else self._last_at.get(model, -math.inf))

    def are_old(self, model: Model) -> bool:
        """Tell whether no batch of `model` has ended for so long that it may have become faster."""
        return self.silent_seconds(model) > OLD_SECONDS

    def expected_seconds(self, model: Model, rows: int) -> float:
        """Return how long `rows` take in as few batches as can be; 0 while nothing is known."""
        full, rest = divmod(rows, self._max_batch_size)
        seconds = full * self._batch_seconds(model, self._max_batch_size)
        return seconds + self._batch_seconds(model, rest) if rest else seconds

    def _batch_seconds(self, model: Model, rows: int) -> float:
        """Return the time of one batch; of sizes that were not seen it is between those that were."""
        known = self._known(model)
        if not known:
            return 0.0
        if rows in known:
            return known[rows].value
        below = max((size for size in known if size < rows), default=None)
        above = min((size for size in known if size > rows), default=None)
        if below is None:
            assert above is not None
            return known[above].value
        if above is None:
            return known[below].value * rows / below
        share = (rows - below) / (above - below)
        return known[below].value + share * (known[above].value - known[below].value)

    def _known(self, model: Model) -> dict[int, MovingAverage]:
        known = self._seconds.get(model)
        if known is None:
            known = {rows: MovingAverage(seconds) for rows, seconds in model.batch_seconds.items()}
            self._seconds[model] = known
        return known
