"""Equal work is done once, for all who still want it."""

import asyncio

import pytest
from inference_service.single_flight import SingleFlight


class Work:
    """Ends when it is told to, and counts what became of it."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.started = self.cancelled = 0

    async def __call__(self) -> str:
        self.started += 1
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "answer"


async def ask(flights: SingleFlight[str], work: Work) -> str:
    return await (flights.get("key") or flights.start("key", work())).join()


async def started(count: int, flights: SingleFlight[str], work: Work) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(ask(flights, work)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_hundred_who_ask_at_once_get_one_answer() -> None:
    flights, work = SingleFlight[str](), Work()
    tasks = await started(100, flights, work)
    work.done.set()
    assert await asyncio.gather(*tasks) == ["answer"] * 100
    assert work.started == 1
    assert flights.get("key") is None


async def test_who_was_first_may_leave() -> None:
    flights, work = SingleFlight[str](), Work()
    first, second = await started(2, flights, work)
    first.cancel()
    await asyncio.wait([first])
    work.done.set()
    assert await second == "answer"
    assert (work.started, work.cancelled) == (1, 0)


async def test_when_all_have_left_the_work_ends_and_who_comes_then_starts_anew() -> None:
    flights, work = SingleFlight[str](), Work()
    tasks = await started(3, flights, work)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert flights.get("key") is None
    [later] = await started(1, flights, work)
    work.done.set()
    assert await later == "answer"
    assert (work.started, work.cancelled) == (2, 1)


async def test_who_comes_while_what_was_given_up_still_ends_starts_anew_and_is_joined() -> None:
    ended = asyncio.Event()

    async def given_up() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await ended.wait()
        raise AssertionError("nobody waits for it")

    flights, work = SingleFlight[str](), Work()
    leaving = asyncio.create_task(flights.start("key", given_up()).join())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    [first] = await started(1, flights, work)
    ended.set()
    for _ in range(3):
        await asyncio.sleep(0)
    [second] = await started(1, flights, work)
    work.done.set()
    assert [await first, await second] == ["answer", "answer"]
    assert work.started == 1


async def test_what_it_raises_is_raised_to_all_and_not_kept() -> None:
    async def failing() -> str:
        await asyncio.sleep(0)
        raise ValueError

    flights = SingleFlight[str]()
    flight = flights.start("key", failing())
    assert [type(result) for result in await asyncio.gather(flight.join(), flight.join(), return_exceptions=True)] == [
        ValueError,
        ValueError,
    ]
    assert flights.get("key") is None
    with pytest.raises(ValueError):
        await flight.join()
