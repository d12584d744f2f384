"""Run the application until it is told to stop, and end cleanly."""

from __future__ import annotations

import errno
import math
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class Server(uvicorn.Server):
    """End with the running requests at the first SIGINT or SIGTERM, at once at the second SIGINT.

    uvicorn raises the signal once more when it has ended; a stop that was asked for is no failure.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals while serving; threads other than the main one get none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {one: signal.signal(one, self.handle_exit) for one in signals}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def make_server(app: Any, seconds: float = 60.0) -> Server:
    """Make a server of an application.

    Args:
        app (Callable): From :func:`mmpanoptic.serving.app.make_app`.
        seconds (float): After which a running request is not waited for when the server ends;
            clients can be slow to read.

    Returns:
        Server: Its ``run(sockets=[...])`` serves.
    """
    config = uvicorn.Config(
        app,
        log_config=None,  # uvicorn's own would close every log file of the process
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=math.ceil(seconds),
        lifespan="on",
    )
    return Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Take an address to listen on.

    Args:
        host (str): Name or address; 127.0.0.1 is this machine alone.
        port (int): 0 takes a free one.

    Returns:
        socket.socket: Bound.

    Raises:
        OSError: If the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        reasons = {
            errno.EADDRINUSE: f"port {port} is taken; --port takes another, 0 a free one",
            errno.EACCES: f"port {port} is not for this user; choose one above 1023",
        }
        reason = reasons.get(error.errno or 0, f"{error.strerror or error}; is --host {host} ours?")
        raise OSError(f"cannot listen on {host}: {reason}") from error
    return taken
