"""What is posted to have something done: a small JSON object."""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from wattkeeper.aggregator.problem import ProblemError

M = TypeVar("M", bound=BaseModel)

_MOST_BYTES = 4096


async def posted(request: web.Request, model: type[M]) -> M:
    """Return the body of a request.

    Raises:
        ProblemError: it is not JSON, too large, or not what `model` wants; names the field.

    """
    if request.content_type != "application/json":
        # Also keeps pages of others from posting by a form in somebody's browser.
        detail = "send Content-Type: application/json"
        raise ProblemError(415, "unsupported-media-type", detail, "Content-Type")
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > _MOST_BYTES:
            detail = f"what is posted here has at most {_MOST_BYTES} bytes"
            raise ProblemError(413, "too-large", detail, "body")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        item = error.errors()[0]
        name = str(item["loc"][0]) if item["loc"] else "body"
        detail = f"{name}: {item['msg']}"
        raise ProblemError(400, "bad-parameter", detail, name) from error
