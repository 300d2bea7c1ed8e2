"""A second start beside a slow one: who wins, who is ended, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from router.dispatch import rival as rivals
from router.dispatch.rival import Overtaken, Rival
from router.net.deadline import Deadline


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(main, 10))


async def after(s: float, value: str = "rival") -> str:
    await asyncio.sleep(s)
    return value


async def until(rival: Rival[str], limit_s: float) -> None:
    """Last as long as a rival lets its block, of which it is the deadline."""
    with rival:
        rival.move(limit_s)
        await asyncio.sleep(5)


async def failing(s: float) -> str:
    await asyncio.sleep(s)
    raise ValueError


def test_a_block_that_is_quick_has_no_rival() -> None:
    async def main() -> None:
        started = []
        with Rival(0.2, lambda: started.append(1)) as rival:  # type: ignore[func-returns-value]
            await asyncio.sleep(0)
        await asyncio.sleep(0.3)
        assert not started
        assert not rival.may_answer

    run(main())


def test_a_rival_that_has_a_result_first_ends_the_block() -> None:
    async def main() -> None:
        rival = Rival(0.01, lambda: after(0.05))
        with pytest.raises(Overtaken), rival:
            await asyncio.sleep(5)
        assert await rival.result() == "rival"
        await asyncio.sleep(0)  # and nothing of the cancellation is left

    run(main())


def test_a_rival_that_fails_ends_nothing() -> None:
    async def main() -> None:
        rival = Rival(0.01, lambda: failing(0.01))
        with rival:
            await asyncio.sleep(0.3)
        assert not rival.may_answer
        assert await rival.stop() is None

    run(main())


def test_a_block_that_fails_leaves_a_rival_that_may_answer() -> None:
    async def main() -> None:
        rival = Rival(0.01, lambda: after(0.3))
        with pytest.raises(ValueError), rival:  # noqa: PT011 - its own
            await failing(0.15)
        assert rival.may_answer
        assert await rival.result() == "rival"

    run(main())


def test_who_is_stopped_gives_up_a_result_that_nobody_took() -> None:
    async def main() -> None:
        running: Rival[str] = Rival(0.01, lambda: after(5))
        with running:
            await asyncio.sleep(0.15)
        assert await running.stop() is None
        assert not running.may_answer

    run(main())


def test_where_none_may_start_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "ASK_AGAIN_S", 0.05)

    async def main() -> None:
        asked = []

        def start() -> Coroutine[Any, Any, str] | None:
            asked.append(1)
            return after(0) if len(asked) == 3 else None

        rival = Rival(0.01, start)
        with pytest.raises(Overtaken), rival:
            await asyncio.sleep(5)
        assert len(asked) == 3

    run(main())


def test_a_cancellation_from_elsewhere_is_one() -> None:
    async def main() -> None:
        rival = Rival(0.01, lambda: after(5))

        async def block() -> None:
            with rival:
                await asyncio.sleep(5)

        task = asyncio.create_task(block())
        await asyncio.sleep(0.15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await rival.stop() is None

    run(main())


def test_a_limit_inside_and_a_result_at_the_same_moment_is_a_result() -> None:
    async def main() -> None:
        rival = Rival(0.01, lambda: after(0.09))
        try:
            with rival, Deadline(0.15):
                await asyncio.sleep(5)
        except (Overtaken, TimeoutError):
            pass
        assert await rival.result() == "rival"
        await asyncio.sleep(0)

    run(main())


def test_a_rival_is_the_deadline_of_its_block_too() -> None:
    async def main() -> None:
        rival = Rival(5, lambda: after(5))
        with pytest.raises(TimeoutError):
            await until(rival, 0.01)
        await asyncio.sleep(0)  # and nothing of the cancellation is left
        assert not rival.has_begun

        moved = Rival(0.01, lambda: after(0.2))
        with pytest.raises(Overtaken):
            await until(moved, 5)
        assert await moved.result() == "rival"

    run(main())


def test_a_block_beside_which_nothing_could_be_started_keeps_its_deadline() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        def start() -> Coroutine[Any, Any, str] | None:
            raise ValueError

        rival = Rival(0.01, start)
        with pytest.raises(TimeoutError):
            await until(rival, 0.15)
        assert not rival.has_begun
        assert await rival.stop() is None

    run(main())


def test_a_deadline_that_passes_leaves_the_task_that_was_started_before() -> None:
    async def main() -> None:
        rival = Rival(0.01, lambda: after(0.3))
        with pytest.raises(TimeoutError):
            await until(rival, 0.15)
        assert rival.may_answer
        assert await rival.result() == "rival"

    run(main())


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_result_counts_that_comes_as_the_deadline_passes(is_gone: bool) -> None:
    """Both interrupt the block before it runs again; a cancellation from elsewhere beats them."""

    async def main() -> None:
        rival = Rival(0.01, lambda: after(5, "rival"))

        async def block() -> None:
            with rival:
                await asyncio.sleep(5)

        task = asyncio.create_task(block())
        await asyncio.sleep(0.15)
        rival.move(-1)
        rival.ring()
        rival._won = True
        rival._task.cancel()
        if is_gone:
            task.cancel()
        with pytest.raises(asyncio.CancelledError if is_gone else Overtaken):
            await task
        assert task.cancelling() == int(is_gone)
        await rival.stop()

    run(main())
