"""What every request passes: the checks of a browser's tricks, and headers of every answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse

from .errors import RequestError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Nothing inline, nothing from elsewhere, no frame around the page, nothing stored."""


class Guard:
    """Refuse requests that other pages make a browser send, and add :data:`HEADERS`.

    A page whose name suddenly leads to this machine (DNS rebinding) sends its own name as Host;
    names are therefore admitted one by one, addresses always, as they cannot be rebound.

    Args:
        app (Callable): The application behind.
        names (Iterable[str]): Names of hosts that are admitted besides ``localhost``.
    """

    def __init__(self, app: Any, names: Iterable[str] = ()) -> None:
        self.app = app
        self.names = {"localhost", *(name.lower().rstrip(".") for name in names)}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        try:
            self.check(scope)
        except RequestError as error:
            await answer_error(error)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def check(self, scope: Message) -> None:
        """Check the headers of a request.

        Args:
            scope (Message): Of ASGI.

        Raises:
            RequestError: If Host is not admitted, or another site's page asks for work.
        """
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        hosts = [value.decode("latin-1") for value in headers.get(b"host", ())]
        if len(hosts) != 1 or not self._admits(_name_of(f"//{hosts[0]}")):
            raise RequestError(
                421,
                "this server is not known by the name in the header Host",
                f"addresses, and the names {', '.join(sorted(self.names))}",
                "use the address, or start the server with --allow-host NAME",
            )
        origins = [value.decode("latin-1") for value in headers.get(b"origin", ())]
        site = headers.get(b"sec-fetch-site", [b"none"])
        foreign = any(urlsplit(o).netloc.lower() != hosts[0].lower() for o in origins)
        if scope["method"] not in ("GET", "HEAD") and (foreign or site[-1] == b"cross-site"):
            raise RequestError(
                403,
                "the page of another site asks for work",
                "requests of this server's own page, and of programs (which send no Origin)",
                "open this server's page, or call it from a program",
            )

    def _admits(self, name: str | None) -> bool:
        try:
            ipaddress.ip_address(name or "")
        except ValueError:
            return name is not None and name.rstrip(".") in self.names
        return True


def _name_of(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        is_plain = parts.username is None and not parts.path and parts.port != 0
        return parts.hostname if is_plain else None
    except ValueError:
        return None


def answer_error(error: RequestError) -> JSONResponse:
    """Make the answer of a request that is refused."""
    return JSONResponse(error.content, error.status, headers=error.headers)
