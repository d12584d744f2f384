"""Answers to requests that cannot be served: what is wrong, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RequestError(Exception):
    """A request that is refused; its answer is JSON with ``error``, ``allowed`` and ``do``.

    Args:
        status (int): Of HTTP.
        error (str): What is wrong. Names no file of the server.
        allowed (str): What is allowed.
        do (str): What to do.
        headers (Mapping | None): Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        error: str,
        allowed: str,
        do: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.headers = dict(headers or {})
        self.content: dict[str, Any] = {"error": error, "allowed": allowed, "do": do}
