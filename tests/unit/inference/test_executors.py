"""Work that must not hold up the event loop."""

import threading

import pytest
from inference_service.executors import AT_ONCE_BYTES, run_by_size


def where(name: str, *, mark: str) -> tuple[str, int]:
    return name + mark, threading.get_ident()


@pytest.mark.parametrize(("size_bytes", "is_here"), [(AT_ONCE_BYTES, True), (AT_ONCE_BYTES + 1, False)])
async def test_a_thread_works_on_what_is_large(size_bytes: int, is_here: bool) -> None:
    result, thread = await run_by_size(size_bytes, where, "work", mark="!")
    assert result == "work!"
    assert (thread == threading.get_ident()) is is_here


@pytest.mark.parametrize("size_bytes", [1, AT_ONCE_BYTES + 1])
async def test_what_work_raises_is_raised(size_bytes: int) -> None:
    with pytest.raises(ValueError, match="no number"):
        await run_by_size(size_bytes, int, "no number")
