"""What the server answers where something is wrong: a reason, in place of a bare 500 or of silence."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException

from scripts.label.train import NO_LABELS

__all__ = ["add_answers"]


def add_answers(server: Any) -> None:
    """Let a server answer 404 for unknown names, 422 for input that cannot be used, 500 with its cause for the rest.

    Args:
        server: MONAI Label's FastAPI application, not yet started.
    """
    server.add_exception_handler(MONAILabelException, _refuse)
    server.add_exception_handler(RequestValidationError, _ask)
    server.add_exception_handler(Exception, _fail)
    server.middleware("http")(_check_training)


async def _check_training(request: Request, call_next: Any) -> Any:
    """Refuse at once what a training would refuse in a process of its own, of which a client hears nothing."""
    model = request.url.path.removeprefix("/train/").strip("/")
    if request.method == "POST" and request.url.path.startswith("/train/") and model:
        from monailabel.interfaces.utils.app import app_instance

        app = app_instance()
        if model not in app.bundles:
            return _answer(404, f"There is no model {model!r}: choose {', '.join(app.bundles)}")
        if model not in app.info()["trainers"]:
            return _answer(422, f"{model} does not learn from labels")
        if not app.datastore().datalist():
            return _answer(422, NO_LABELS)
    return await call_next(request)


async def _refuse(_: Request, error: Any) -> JSONResponse:
    reason = str(getattr(error, "msg", error))
    unknown = isinstance(error, (ImageNotFoundException, LabelNotFoundException)) or "There is no " in reason
    return _answer(404 if unknown else 422, reason)


async def _ask(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    return _answer(422, f"{where or 'the body'}: {first.get('msg', 'cannot be used')}")


async def _fail(_: Request, error: Exception) -> JSONResponse:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
    return _answer(500, f"{reason} (the log of the server, logs/app.log, has more)")


def _answer(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"detail": reason}, status_code=status)
