"""Work for a caller ends with the caller, and with nobody else."""

import asyncio
import contextlib

import pytest
from inference_service.disconnects import while_connected
from inference_service.errors import CallerLeft
from starlette.types import Message


class Caller:
    """The `receive` of a request whose body was read."""

    def __init__(self) -> None:
        self._left = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}


class Work:
    """Takes until `end` is set, and knows how it ended."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.was_cancelled = False

    async def run(self) -> str:
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return "done"


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_stays_gets_what_the_work_returns_and_nothing_goes_on_watching() -> None:
    caller, work = Caller(), Work()
    asyncio.get_running_loop().call_soon(work.end.set)
    assert await while_connected(caller.receive, work.run()) == "done"
    await _settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_leaves_cancels_the_work() -> None:
    caller, work = Caller(), Work()
    asyncio.get_running_loop().call_soon(caller.leave)
    with pytest.raises(CallerLeft):
        await while_connected(caller.receive, work.run())
    assert work.was_cancelled
    await asyncio.sleep(0)  # the cancellation is over: it was the caller's, not of this task


async def test_who_leaves_as_the_answer_comes_cancels_nothing_after_it() -> None:
    caller, work = Caller(), Work()

    def both() -> None:
        caller.leave()
        work.end.set()

    asyncio.get_running_loop().call_soon(both)
    with contextlib.suppress(CallerLeft):
        assert await while_connected(caller.receive, work.run()) == "done"
    await _settled()
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()


async def test_an_error_of_the_work_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await while_connected(Caller().receive, fail())


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    work = Work()
    task = asyncio.create_task(while_connected(Caller().receive, work.run()))
    await _settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.was_cancelled


async def test_a_time_limit_around_it_is_still_one_when_the_caller_leaves_too() -> None:
    caller, work = Caller(), Work()

    async def limited() -> None:
        async with asyncio.timeout(0.01):
            asyncio.get_running_loop().call_later(0.02, caller.leave)
            await while_connected(caller.receive, work.run())

    with pytest.raises(TimeoutError):
        await limited()
