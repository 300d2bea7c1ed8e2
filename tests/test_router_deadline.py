"""A time limit that moves: when it ends its block, and when it must not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from router.net.deadline import Deadline, clock_of


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(main, 10))


def test_a_block_that_lasts_too_long_ends_with_a_timeout() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError), Deadline(0.01):
            await asyncio.Event().wait()
        await asyncio.sleep(0)  # and nothing of the cancellation is left

    run(main())


def test_a_block_in_time_leaves_no_timer() -> None:
    async def main() -> None:
        with Deadline(0.02):
            await asyncio.sleep(0)
        await asyncio.sleep(0.04)

    run(main())


def test_a_limit_that_moves_on_does_not_end_the_block() -> None:
    async def main() -> None:
        with Deadline(0.02) as limit:
            for _ in range(8):
                await asyncio.sleep(0.01)
                limit.move(0.02)

    run(main())


@pytest.mark.parametrize("first_s", [60.0, 0.02])
def test_a_limit_that_was_moved_still_ends_the_block(first_s: float) -> None:
    """Sooner than the timer was set for, or later."""

    async def main() -> None:
        async def block() -> None:
            with Deadline(first_s) as limit:
                limit.move(0.05)
                await asyncio.Event().wait()

        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await block()
        assert 0.04 < asyncio.get_running_loop().time() - began < 5

    run(main())


def test_a_cancellation_from_elsewhere_passes_through() -> None:
    async def main() -> None:
        async def block() -> None:
            with Deadline(60):
                await asyncio.Event().wait()

        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_cancellation_beside_the_limit_is_not_lost() -> None:
    async def main() -> None:
        async def block() -> None:
            with Deadline(0.01):
                try:
                    await asyncio.Event().wait()
                finally:
                    task.cancel()

        task = asyncio.create_task(block())
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_limits_hold_after_one_whose_end_failed() -> None:
    """That is told to the loop; who waits already, and who comes later, is ended in time."""

    class Failing:
        due_at = 0.0

        def ring(self) -> None:
            raise ValueError("nobody is there")

    async def main() -> None:
        told: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        for _ in range(2):
            clock_of(loop).add(Failing())
            with pytest.raises(TimeoutError), Deadline(0.01):
                await asyncio.Event().wait()
        assert [str(error) for error in told] == ["nobody is there"] * 2

    run(main())


def test_a_limit_that_is_far_away_wakes_nobody_before_and_one_that_comes_closer_is_kept() -> None:
    """However many others are set, moved and lifted meanwhile."""

    async def main() -> None:
        looks = 0
        clock = clock_of(asyncio.get_running_loop())
        ring_due = clock._ring_due

        def look() -> None:
            nonlocal looks
            looks += 1
            ring_due()

        clock._ring_due = look  # type: ignore[method-assign]

        async def block() -> None:
            with Deadline(60) as limit:
                for _ in range(20):
                    with Deadline(30) as inner:
                        await asyncio.sleep(0.01)
                        inner.move(40)
                assert looks == 0
                limit.move(0.06)
                await asyncio.Event().wait()

        with pytest.raises(TimeoutError):
            await block()
        assert looks == 1

    run(main())
