"""The OpenAPI document, and a page of it that loads nothing from anywhere: no script, no font, no style of others."""

import functools
import html
from typing import Any

from exportkit import __version__
from exportkit.serving.models import VERSION
from exportkit.serving.tensors import DATATYPES

SAFE = [(b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"), (b"x-content-type-options", b"nosniff")]

_TEXT = {"type": "string"}
_SIZE = {"type": "integer", "minimum": 0}
_OBJECT: dict[str, Any] = {"type": "object"}
_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Bytes of JSON at the body's beginning, where raw tensors follow.",
    "schema": _SIZE,
}
_DATATYPE = {"type": "string", "enum": sorted(DATATYPES.values())}


def _record(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


def _many(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TENSOR = {
    "name": _TEXT,
    "datatype": _DATATYPE,
    "shape": _many(_SIZE),
    "data": {"type": "array", "description": "Flat, or nested as the shape says."},
}
_PORT = _record(("name", "datatype", "shape"), name=_TEXT, datatype=_DATATYPE, shape=_many({"type": "integer", "minimum": -1}))
_RAW_INPUT = _record((), binary_data_size={**_SIZE, "description": "Bytes of this tensor behind the JSON, in place of data."})
_RAW_OUTPUT = _record((), binary_data={"type": "boolean"})
_REQUEST = _record(
    ("inputs",),
    id=_TEXT,
    parameters=_record((), binary_data_output={"type": "boolean"}),
    inputs=_many(_record(("name", "datatype", "shape"), **_TENSOR, parameters=_RAW_INPUT)),
    outputs=_many(_record(("name",), name=_TEXT, parameters=_RAW_OUTPUT)),
)
_ANSWER = _record(
    ("model_name", "model_version", "outputs"),
    model_name=_TEXT,
    model_version=_TEXT,
    id=_TEXT,
    outputs=_many(_record(("name", "datatype", "shape"), **_TENSOR, parameters=_OBJECT)),
)
_SCHEMAS = {
    "Error": _record(("error",), error=_TEXT),
    "InferRequest": _REQUEST,
    "InferAnswer": _ANSWER,
    "Live": _record(("live",), live={"type": "boolean"}),
    "Ready": _record(("ready",), ready={"type": "boolean"}, name=_TEXT),
    "Server": _record(("name", "version", "extensions"), name=_TEXT, version=_TEXT, extensions=_many(_TEXT)),
    "Models": _record(("models",), models=_many(_TEXT)),
    "Model": _record(
        ("name", "versions", "platform", "inputs", "outputs"),
        name=_TEXT, versions=_many(_TEXT), platform=_TEXT, inputs=_many(_PORT), outputs=_many(_PORT),
    ),
    "Config": _record(
        ("name", "max_batch_size", "input", "output"),
        name=_TEXT, max_batch_size=_SIZE, input=_many(_OBJECT), output=_many(_OBJECT),
    ),
    "IndexRequest": _record((), ready={"type": "boolean"}),
    "Index": _many(_record(("name", "version", "state", "reason"), name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)),
    "Empty": {"type": "object"},
}  # fmt: skip
# Status -> what it means, of what a request can be refused with.
_REFUSED = {
    "400": "The request is not what the model takes; the reason says what is expected.",
    "403": "This server lets no client load or unload models.",
    "404": "There is no such model or version.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "415": "The body is of another type, or compressed.",
    "429": "Too many requests wait for this model.",
    "503": "The model or the server is not ready, or no core was free in time.",
    "504": "The run took longer than a request may take.",
}
_BODY = ("400", "408", "413", "503")


@functools.cache
def document(models: tuple[str, ...]) -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document of a server of these models."""
    name, version = _part("model", models), _part("version", (VERSION,))
    paths: dict[str, Any] = {
        "/v2": {"get": _operation("Server metadata", "Server")},
        "/v2/health/live": {"get": _operation("Whether the server lives", "Live")},
        "/v2/health/ready": {"get": _operation("Whether the server and all its models are ready", "Ready", not_ready="Ready")},
        "/v2/models": {"get": _operation("The names of the models", "Models")},
        "/v2/repository/index": {"post": _operation("The models and their states", "Index", body="IndexRequest", refused=_BODY)},
        "/metrics": {"get": _operation("Metrics, as Prometheus reads them", "")},
        "/openapi.json": {"get": _operation("This document", "Empty")},
    }
    for action in ("load", "unload"):
        refused = ("403", "404", *_BODY)
        paths[f"/v2/repository/models/{{model}}/{action}"] = {
            "parameters": [name],
            "post": _operation(f"{action.capitalize()} a model (--allow-reload)", "Empty", refused=refused),
        }
    for place, parameters in (("/v2/models/{model}", [name]), ("/v2/models/{model}/versions/{version}", [name, version])):
        paths[place] = {"parameters": parameters, "get": _operation("Model metadata", "Model", refused=("404", "503"))}
        ready = _operation("Whether a model is ready", "Ready", refused=("404",), not_ready="Ready")
        paths[f"{place}/ready"] = {"parameters": parameters, "get": ready}
        paths[f"{place}/config"] = {"parameters": parameters, "get": _operation("Model configuration", "Config", refused=("404", "503"))}
        infer = _operation("Run a model", "InferAnswer", body="InferRequest", refused=(*_BODY, "404", "415", "429", "504"))
        infer["parameters"] = [_LENGTH]
        infer["responses"]["200"]["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
        paths[f"{place}/infer"] = {"parameters": parameters, "post": infer}
    info = {"title": "exportkit serve", "version": __version__, "description": "The Open Inference Protocol (KServe V2)."}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": _SCHEMAS}}


@functools.cache
def page(models: tuple[str, ...]) -> bytes:
    """Returns a page that lists what the document says."""
    rows = []
    for place, item in document(models)["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            answers = ", ".join(operation["responses"])
            cells = (f"{method.upper()} {place}", operation["summary"], answers)
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    meanings = "".join(f"<li>{status}: {html.escape(text)}</li>" for status, text in _REFUSED.items())
    style = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}td{padding:.2rem 1.5rem .2rem 0}"
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>exportkit serve</title><style>{style}</style>'
        "<h1>exportkit serve</h1><p>The Open Inference Protocol (KServe V2) over REST; gRPC is on a port of its own. "
        'Schemas: <a href="/openapi.json">openapi.json</a>.</p><table>'
        f"<tr><th>request</th><th>what it does</th><th>answers</th></tr>{''.join(rows)}</table><h2>Refusals</h2><ul>{meanings}</ul></html>"
    )
    return text.encode()


def _part(name: str, values: tuple[str, ...]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": list(values)}}


def _operation(summary: str, answer: str, *, body: str = "", refused: tuple[str, ...] = (), not_ready: str = "") -> dict[str, Any]:
    content = _content(answer) if answer else {"text/plain": {"schema": _TEXT}}
    operation: dict[str, Any] = {"summary": summary, "responses": {"200": {"description": "Done.", "content": content}}}
    for status in sorted({*refused, "405"}):
        what = _REFUSED.get(status, "The path takes another method.")
        operation["responses"][status] = {"description": what, "content": _content("Error")}
    if not_ready:
        operation["responses"]["503"] = {"description": "It is not.", "content": _content(not_ready)}
    if body:
        operation["requestBody"] = {"required": body == "InferRequest", "content": _content(body)}
    return operation


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
