"""Processes of a run, forked from this one: they start in milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback

import torch

FORK = multiprocessing.get_context("fork")
SECONDS = 300


def run_ranks(function, *arguments, world=2):
    """Call a function in each of several processes, with its rank first; return what they return.

    The process group is for the function to start (``launcher="pytorch"``). An exception comes back
    as such, a ``SystemExit``, too.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    queue = FORK.Queue()
    processes = [
        FORK.Process(target=_call, args=(queue, rank, world, port, function, arguments))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    try:
        results = dict(queue.get(timeout=SECONDS) for _ in processes)
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    return [results[rank] for rank in range(world)]


def _call(queue, rank, world, port, function, arguments):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)  # the threads of this process were not forked
    try:
        result = function(rank, *arguments)
    except BaseException as error:
        traceback.print_exc()
        result = error
    queue.put((rank, result))
    queue.close()
    queue.join_thread()
    os._exit(0)
