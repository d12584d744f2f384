"""Threads that do the work of requests, while the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from .errors import RequestError
from .limits import Limits

Message = Any


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class WorkQueue:
    """Admit a bounded number of requests, and work on them in threads.

    Args:
        limits (Limits): ``workers``, ``waiting`` and ``seconds``.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.free = limits.workers + limits.waiting
        self.pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="mmpanoptic-serve")

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Hold a place in the queue; it is free again when the work has really ended.

        Raises:
            RequestError: With status 503, if there is none.
        """
        if self.free < 1:
            raise RequestError(
                503,
                "the server is busy: all places of its queue are taken",
                f"{self.limits.workers + self.limits.waiting} requests at once",
                "try again after the seconds of the header Retry-After",
                {"Retry-After": "1"},
            )
        self.free -= 1
        place = Place(self)
        try:
            yield place
        finally:
            place.leave()

    def _leave(self) -> None:
        self.free += 1

    def close(self) -> None:
        """Let running work end, and give up what waits."""
        self.pool.shutdown(wait=True, cancel_futures=True)


class Place:
    """A place in the queue.

    Args:
        queue (WorkQueue): The queue.
    """

    def __init__(self, queue: WorkQueue) -> None:
        self.queue = queue
        self.future: Future[Any] | None = None

    async def run(
        self, receive: Callable[[], Awaitable[Message]], function: Callable[..., Any], *args: Any
    ) -> Any:
        """Call a function in a thread.

        Args:
            receive (Callable): Of the request, whose body was read; tells when the client goes.
            function (Callable): The work.
            *args: Its arguments.

        Returns:
            Any: What it returns.

        Raises:
            RequestError: With status 504, if it takes too long.
            ClientGoneError: If the client has gone.
        """
        job: list[Any] = [(function, args)]
        self.future = self.queue.pool.submit(_do, job)
        work = asyncio.wrap_future(self.future)
        gone = asyncio.ensure_future(_wait_for_end(receive))
        seconds = self.queue.limits.seconds
        both = {work, gone}
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        ended = gone.done()
        gone.cancel()
        if work.done():
            return work.result()
        work.cancel()  # what has not begun is given up; what runs cannot be stopped
        job.clear()  # the pool holds what was cancelled until a thread comes to it
        if ended:
            raise ClientGoneError
        raise RequestError(
            504,
            f"there was no result after {seconds:g} seconds",
            f"{seconds:g} seconds of waiting and working",
            "send a smaller image, try again, or start the server with a greater --timeout",
        )

    def leave(self) -> None:
        """Give the place back, at once or when the thread is done."""
        if self.future is None or self.future.done():
            self.queue._leave()
            return
        loop = asyncio.get_running_loop()

        def done(_: Future[Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.queue._leave)

        self.future.add_done_callback(done)


async def _wait_for_end(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _do(job: list[Any]) -> Any:
    if not job:
        return None
    function, args = job.pop()
    return function(*args)
