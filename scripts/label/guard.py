"""The one door of the server: each request is known and harmless, or refused before MONAI Label sees it."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from typing import IO, Any
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from scripts.errors import InputError
from scripts.label.access import Access
from scripts.label.doors import Door, find_door
from scripts.label.values import in_json

__all__ = ["Guard"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_SMALL = 1 << 20  # bytes of a body without files
_PIECE = 1 << 20
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class _RefusedError(Exception):
    """Why a request is refused, and with which status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """ASGI middleware that stands before everything else.

    The body is read in full, counted and checked, and then handed on as it came, to the same parsers.

    Args:
        app: what answers the requests that pass.
        access: who is answered.
        max_bytes: that a request with files may have.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], access: Access, max_bytes: int) -> None:
        self.app = app
        self.access = access
        self.max_bytes = max_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        with tempfile.SpooledTemporaryFile(max_size=_PIECE) as body:
            try:
                told = await self._pass(Request(scope), receive, body)
            except (InputError, _RefusedError) as error:
                told = _answer(getattr(error, "status", 422), str(error))
            if told is not None:
                await told(scope, receive, send)
            else:
                await self.app(scope, _replay(body, receive), send)

    async def _pass(self, request: Request, receive: Receive, body: IO[bytes]) -> JSONResponse | None:
        """Return None for a request that is handed on; its body is kept."""
        self._check_sender(request)
        path, headers = request.scope["path"], request.headers
        if request.method == "GET" and path in ("/auth", "/auth/"):
            return JSONResponse({"enabled": self.access.token is not None})
        if request.method == "POST" and path == "/auth/token":
            await self._read(request, receive, body, _SMALL)
            return self._token(body)
        if not self.access.knows_token(headers.get("authorization")):
            return _answer(401, "the token of the server is needed, as a bearer token or as the password of any user")
        if request.method == "GET" and path == "/auth/token/valid":
            return JSONResponse({"username": "user"})
        door = find_door(request.method, path)
        if door is None:
            raise _RefusedError(404, "this server does not answer such a request: docs/slicer.md says which it does")
        query = request.query_params.multi_items()
        door.check_query(query)
        await self._read(request, receive, body, self.max_bytes if door.file else _SMALL)
        await _check_body(door, request, query, body)
        return None

    def _check_sender(self, request: Request) -> None:
        """Refuse what a web page of another site makes a browser send."""
        headers = request.headers
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.knows_host(hosts[0]):
            raise _RefusedError(400, "this server has another name: --allowed_hosts adds names by which it is reached")
        origins = headers.getlist("origin") or [None]
        site = headers.get("sec-fetch-site")
        if not all(self.access.is_own_origin(request.method, origin, site, hosts[0]) for origin in origins):
            raise _RefusedError(403, "pages of another site may not change anything here")

    async def _read(self, request: Request, receive: Receive, body: IO[bytes], most: int) -> None:
        """Keep a body of a size that is allowed."""
        too_large = _RefusedError(
            413, f"the request has more than {most / 1e9:g} GB: --max_upload_gb says what is taken"
        )
        told = request.headers.get("content-length", "0")
        if not told.isascii() or not told.isdigit() or int(told) > most:
            raise too_large
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise _RefusedError(400, "the request was not sent in full")
            body.write(message.get("body", b""))
            if body.tell() > most:
                raise too_large
            more = message.get("more_body", False)

    def _token(self, body: IO[bytes]) -> JSONResponse:
        """Answer 3D Slicer, which gives a user's name and password and wants a token for them."""
        body.seek(0)
        given = parse_qs(body.read().decode("utf-8", "replace")).get("password", [""])[-1]
        if self.access.token is not None and not self.access.is_token(given):
            return _answer(401, "this is not the token of the server: give it as the password")
        kind = None if self.access.token is None else "Bearer"
        return JSONResponse({"access_token": self.access.token, "token_type": kind})


async def _check_body(door: Door, request: Request, query: list[tuple[str, str]], body: IO[bytes]) -> None:
    """Refuse a body that says what it may not.

    Raises:
        InputError: says what.
    """
    size, kind = body.tell(), request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if size == 0:
        return
    body.seek(0)
    if door.body is not None:
        if kind != "application/json":
            raise InputError("the body is no JSON: send it with the content type application/json")
        in_json(door.body)("the body", body.read())
    elif kind in _FORMS and (door.form or door.file):
        try:
            form = await Request(request.scope, _replay(body, _nothing)).form()
        except (HTTPException, MultiPartException) as error:
            raise InputError("the form cannot be read: send it as multipart/form-data") from error
        try:
            door.check_form(form.multi_items(), query)
        finally:
            await form.close()
    else:
        raise InputError("a body of this kind is not taken here: docs/slicer.md says what is")


def _replay(body: IO[bytes], receive: Receive) -> Receive:
    """Return what gives a body anew, piece by piece, and after it what else comes."""
    body.seek(0)
    done = False

    async def give() -> Message:
        nonlocal done
        if done:
            return await receive()
        piece = body.read(_PIECE)
        done = len(piece) < _PIECE
        return {"type": "http.request", "body": piece, "more_body": not done}

    return give


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _answer(status: int, reason: str) -> JSONResponse:
    headers = {"WWW-Authenticate": 'Basic realm="labels", charset="UTF-8"'} if status == 401 else {}
    # what follows of a body that was not read would be taken for the next request
    return JSONResponse({"detail": reason}, status_code=status, headers={**headers, "Connection": "close"})
