"""The application: its page, its JSON interface, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mmpanoptic.visualization import PALETTES
from mmpanoptic.visualization.pages import fill_page

from .errors import RequestError
from .guard import Guard, answer_error
from .predictor import ANSWERS, Predictor, Query
from .work_queue import ClientGoneError, WorkQueue

_GONE = 499  # nginx's number for a client that has not waited; nobody reads the answer
_SWITCHES = {"0": False, "false": False, "1": True, "true": True}


def make_app(predictor: Predictor, names: Iterable[str] = ()) -> Guard:
    """Make the application that a server runs.

    Args:
        predictor (Predictor): Does the work.
        names (Iterable[str]): Names of hosts that it may be called by, besides ``localhost``.

    Returns:
        Guard: An ASGI application.
    """
    api = Interface(predictor)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        api.queue.close()

    paths: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/": api.page,
        "/page.css": api.style,
        "/page.js": api.script,
        "/model": api.model,
        "/health": api.health,
        "/results/{name}": api.result,
    }
    routes = [Route(path, function, methods=["GET"]) for path, function in paths.items()]
    routes.append(Route("/predict", api.predict, methods=["POST"]))
    handlers: Any = {
        RequestError: _refuse,
        HTTPException: _explain_status,
        ClientDisconnect: _forget,
        ClientGoneError: _forget,
        Exception: _apologise,
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return Guard(app, names)


class Interface:
    """The functions behind the paths.

    Args:
        predictor (Predictor): Does the work.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.limits = predictor.limits
        self.queue = WorkQueue(predictor.limits)
        self._page = fill_page("serve.html", title=f"Try {predictor.name}", model=predictor.name)
        self._style, self._script = fill_page("serve.css"), fill_page("serve.js")
        self._model = predictor.describe()

    async def page(self, _: Request) -> Response:
        """Answer ``GET /``."""
        return Response(self._page, media_type="text/html")

    async def style(self, _: Request) -> Response:
        """Answer ``GET /page.css``."""
        return Response(self._style, media_type="text/css")

    async def script(self, _: Request) -> Response:
        """Answer ``GET /page.js``."""
        return Response(self._script, media_type="text/javascript")

    async def model(self, _: Request) -> Response:
        """Answer ``GET /model``: classes, settings, limits."""
        return JSONResponse(self._model)

    async def health(self, _: Request) -> Response:
        """Answer ``GET /health``: the server is there, and what it holds."""
        return JSONResponse({"status": "ok", "free": self.queue.free, **self.predictor.status()})

    async def predict(self, request: Request) -> Response:
        """Answer ``POST /predict``: the body is an image."""
        query = self._read_query(request, ("keep", "replaces"))
        with self.queue.place() as place:
            body = await self._read_body(request)
            return await self._run(place, request, self.predictor.predict, body, query)

    async def result(self, request: Request) -> Response:
        """Answer ``GET /results/NAME``: the same image with other settings."""
        query = self._read_query(request)
        with self.queue.place() as place:
            name = request.path_params["name"]
            return await self._run(place, request, self.predictor.fuse, name, query)

    async def _run(
        self, place: Any, request: Request, function: Callable[..., Any], *args: Any
    ) -> Response:
        content, kind = await place.run(request.receive, function, *args)
        return Response(content, media_type=kind)

    def _read_query(self, request: Request, more: Iterable[str] = ()) -> Query:
        """Read the words behind the question mark.

        Raises:
            RequestError: If one is unknown or has a wrong value.
        """
        given: dict[str, str] = {}
        for key, value in request.query_params.multi_items():
            if key in given:
                raise _wrong(f"{key} is there twice", "each word once")
            given[key] = value
        answer = _choose(given, "answer", ANSWERS)
        palette = _choose(given, "palette", PALETTES, self.predictor.palette)
        keep = _SWITCHES[_choose(given, "keep", list(_SWITCHES))] if "keep" in more else False
        instead = given.pop("replaces", None) if "replaces" in more else None
        settings = {}
        for name, text in given.items():
            try:
                settings[name] = float(text)
            except ValueError:
                known = ", ".join(["answer", "palette", *more, *self.predictor.live.settings])
                raise _wrong(f"{name}={text} is no number", f"numbers; words: {known}") from None
        query = Query(answer, palette, settings, keep, instead)
        self.predictor.check(query)
        return query

    async def _read_body(self, request: Request) -> bytes:
        """Read a body as far as the limits go.

        Raises:
            RequestError: If it is too long or comes too slowly.
        """
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.limits.body:
            raise self._too_long()
        try:
            return await asyncio.wait_for(self._collect(request), self.limits.seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise RequestError(
                408,
                f"the body was not there after {self.limits.seconds:g} seconds",
                f"{self.limits.seconds:g} seconds for a request to arrive",
                "send a smaller image, or start the server with a greater --timeout",
            ) from None

    async def _collect(self, request: Request) -> bytes:
        chunks, length = [], 0
        async for chunk in request.stream():
            length += len(chunk)
            if length > self.limits.body:
                raise self._too_long()
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_long(self) -> RequestError:
        return RequestError(
            413,
            "the body is too long",
            f"{self.limits.body:,} bytes",
            "send a smaller image, or start the server with a greater --max-mb",
        )


def _choose(
    given: dict[str, str], name: str, choices: Iterable[str], default: str | None = None
) -> str:
    choices = list(choices)
    value = given.pop(name, default or choices[0])
    if value not in choices:
        raise _wrong(f"{name}={value} is unknown", f"{name}: {', '.join(choices)}")
    return value


def _wrong(error: str, allowed: str) -> RequestError:
    return RequestError(422, error, allowed, "mend the address; GET /model lists the settings")


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 - what the handler is registered for
    return answer_error(error)


async def _explain_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    what = {404: "there is nothing at this address", 405: f"{request.method} is not for this path"}
    return answer_error(
        RequestError(
            error.status_code,
            what.get(error.status_code, error.detail),
            "GET / (the page), GET /model, GET /health, POST /predict, GET /results/NAME",
            "see the page or docs/serve.md",
            error.headers,
        )
    )


async def _forget(_: Request, __: Exception) -> Response:
    return Response(status_code=_GONE)


async def _apologise(_: Request, __: Exception) -> Response:
    # Starlette raises the error again when this is sent, and uvicorn writes it to the console.
    return answer_error(
        RequestError(
            500,
            "the server failed on this request; its console shows why",
            "images of the kinds that GET /model lists",
            "try another image, and report this one",
        )
    )
