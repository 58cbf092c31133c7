"""The API for people, as one page without scripts: it loads nothing, from us or from anybody else."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from api.problems import KINDS
from core.errors import NotFoundError

router = APIRouter(include_in_schema=False)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc } code, pre { font: 14px/1.4 ui-monospace, monospace }
h3 code { background: #eef; padding: .1rem .4rem } pre { background: #f6f6f6; padding: .8rem; overflow: auto }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }
"""
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


@router.get("/docs")
def page(request: Request) -> HTMLResponse:
    return HTMLResponse("\n".join(_page(request.app.openapi())), headers=_HEADERS)


@router.get("/problems/{kind}")
def problem(kind: str) -> JSONResponse:
    """What a problem's `type` leads to."""
    if kind not in KINDS:
        raise NotFoundError("there is no problem of this type")
    return JSONResponse({"type": f"/problems/{kind}", "title": KINDS[kind].title, "status": int(KINDS[kind].status)})


def _page(schema: dict[str, Any]) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(schema['info']['title'])}</title>"
    yield f"<style>{_STYLE}</style><h1>{escape(schema['info']['title'])} {escape(schema['info']['version'])}</h1>"
    for part in schema["info"]["description"].split("\n\n"):
        yield f"<p>{escape(part)}</p>"
    yield "<p>For programs: <a href=/openapi.json>openapi.json</a></p>"
    for tag in schema["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>"
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation.get("tags", ()):
                    yield from _operation(method, path, operation)
    yield "<h2>Shapes</h2>"
    for name, shape in sorted(schema["components"]["schemas"].items()):
        yield f"<h3 id='{escape(name)}'>{escape(name)}</h3><p>{escape(shape.get('description', ''))}</p>"
        yield f"<pre>{escape(json.dumps(shape.get('properties', shape), indent=1))}</pre>"
        for example in shape.get("examples", ()):
            yield f"<p>Example</p><pre>{escape(json.dumps(example, indent=2))}</pre>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h3><code>{method.upper()} {escape(path)}</code> {escape(operation.get('summary', ''))}</h3>"
    yield f"<p>{escape(operation.get('description', ''))}</p><table>"
    for parameter in operation.get("parameters", ()):
        need = "required" if parameter.get("required") else "optional"
        told = parameter.get("description", parameter["schema"].get("description", ""))
        yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}, {need}<td>{escape(told)}"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if body:
        yield f"<tr><td>body<td>{_link(body['schema'])}<td>"
    for status, response in operation["responses"].items():
        contents: list[dict[str, Any]] = list(response.get("content", {}).values())
        shape = contents[0]["schema"] if contents else {}
        yield f"<tr><td>{escape(status)}<td>{_link(shape)}<td>{escape(response['description'])}"
    yield "</table>"


def _link(shape: dict[str, Any]) -> str:
    name = shape.get("$ref", "").rpartition("/")[2]
    return f"<a href='#{escape(name)}'>{escape(name)}</a>" if name else ""
