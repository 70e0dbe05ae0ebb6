"""The OpenAPI document, generated from the endpoints' own models."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from wattkeeper import __version__
from wattkeeper.aggregator.endpoint import Endpoint

_REF = "#/components/schemas/{model}"


class Problem(BaseModel):
    """What every error looks like (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


def document(
    endpoints: Iterable[Endpoint[Any]], others: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `endpoints` and of `others` (path item by path)."""
    listed = list(endpoints)
    models: list[type[BaseModel]] = [*(endpoint.answer for endpoint in listed), Problem]
    _, schemas = models_json_schema(
        [(model, "serialization") for model in models], ref_template=_REF
    )
    named = dict(schemas["$defs"])
    for endpoint in listed:
        named |= endpoint.query.model_json_schema(ref_template=_REF).get("$defs", {})
    paths = {endpoint.path: {"get": _operation(endpoint)} for endpoint in listed}
    for path, item in others.items():
        paths[path] = paths.get(path, {}) | item
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wattkeeper aggregator",
            "version": __version__,
            "description": "Times are RFC 3339 or relative (-24h) and snap to the ledger's slots; "
            "`*_uj` are whole microjoules as decimal strings.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": named,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # Without it, too: by a proxy, a unix socket, or what is everybody's. See docs/security.md.
        "security": [{"token": []}, {}],
    }


def _operation(endpoint: Endpoint[Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"$ref": _REF.format(model=endpoint.answer.__name__)}
    if endpoint.many:
        schema = {"type": "array", "items": schema}
    return {
        "summary": endpoint.summary,
        "parameters": list(_parameters(endpoint.path, endpoint.query)),
        "responses": {
            "200": {
                "description": "the answer",
                "content": {"application/json": {"schema": schema}},
            },
            "default": problem_response(),
        },
    }


def problem_response(*others: str) -> dict[str, Any]:
    """Return the response object of every error; `others`: content types that it has as well."""
    schema = {"$ref": _REF.format(model=Problem.__name__)}
    return {
        "description": "what is wrong, and what to do",
        "content": {"application/problem+json": {"schema": schema}, **{one: {} for one in others}},
    }


def page_item(path: str, summary: str, query: type[BaseModel]) -> dict[str, Any]:
    """Return the path item of a page or a file, for people."""
    return {
        "get": {
            "summary": summary,
            "parameters": list(_parameters(path, query)),
            "responses": {
                "200": {"description": summary, "content": {"text/html": {}}},
                "default": problem_response("text/html"),
            },
        }
    }


def _parameters(path: str, query: type[BaseModel]) -> Iterable[dict[str, Any]]:
    schema = query.model_json_schema(ref_template=_REF)
    required: Sequence[str] = schema.get("required", ())
    for name, described in schema["properties"].items() if "properties" in schema else ():
        in_path = f"{{{name}}}" in path
        described.pop("title", None)
        yield {
            "name": name,
            "in": "path" if in_path else "query",
            "required": in_path or name in required,
            "description": described.pop("description", ""),
            "schema": described,
        }
