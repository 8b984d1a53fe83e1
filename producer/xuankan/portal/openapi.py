"""The OpenAPI 3.1 document, made from the table of calls and the schemas that check them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any, Final, cast

import msgspec

from xuankan.portal.gateway import SHORTEST_FREE_KEY
from xuankan.portal.problems import KINDS, MEDIA_TYPE, ProblemBody
from xuankan.portal.routes import OPERATIONS, Operation

_REF: Final = "#/components/schemas/{name}"
_ABOUT: Final = """\
Give a title and an abstract, get the journals that fit, best first.

**200** is the ranking, **202** means not yet (look at `Location` again), **204** that it was cancelled;
anything else is a problem (RFC 9457) whose `code` is a stable word for programs. Manuscripts are ranked by
workers behind a queue; a ranking is kept for an hour."""
_PATH_PARAMETERS: Final[dict[str, Any]] = {
    "id": {
        "description": "The ranking's id, as the submission answered it.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "journal": {
        "description": "The journal's id.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 256},
    },
}
_EXAMPLE: Final = {
    "title": "Flow past a cylinder",
    "abstract": "We study the wake of a circular cylinder by direct numerical simulation.",
    "top_k": 5,
}
_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "description": "data is, for queued and running, a PendingBody; for done a RankingBody; for problem a "
    "ProblemBody. Each is a whole state; done and problem end the stream.",
    "properties": {
        "event": {"enum": ["queued", "running", "done", "problem"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
_RETRIED: Final = frozenset({"rate_limited", "queue_full", "unavailable"})
_HEADER: Final[dict[str, Any]] = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Location": {"description": "URL of the ranking.", "schema": {"type": "string"}},
}


@cache
def document(key_required: bool) -> dict[str, Any]:
    """The document, as plain values, of a portal that takes no calls without a key, or that does."""
    named = _structs()
    _, schemas = msgspec.json.schema_components(named, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Xuankan",
            "version": version("xuankan"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            path: {
                **({"parameters": parameters} if (parameters := _path_parameters(path)) else {}),
                **{method.lower(): _operation(one, key_required) for method, one in methods.items()},
            }
            for path, methods in OPERATIONS.items()
        },
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if not name.endswith("Query")},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key of this portal."}
            },
        },
    }


def _structs() -> list[Any]:
    found: dict[Any, None] = {ProblemBody: None}
    for methods in OPERATIONS.values():
        for one in methods.values():
            found.update(dict.fromkeys(content for content in one.answers.values() if _is_struct(content)))
            if _is_struct(one.body):
                found[one.body] = None
            found[one.query] = None
    return list(found)


def _operation(one: Operation, key_required: bool) -> dict[str, Any]:
    parameters = _query_parameters(one)
    if one.name == "submit":
        parameters.append(_idempotency_key(key_required))
    described: dict[str, Any] = {"operationId": one.name, "summary": one.summary}
    if parameters:
        described["parameters"] = parameters
    if one.body is bytes:
        described["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    elif one.body is not None:
        content = {"application/json": {**_schema(one.body), "example": _EXAMPLE}}
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = _answers(one) | _problems(one)
    described["security"] = [] if one.open else [{"key": []}] if key_required else [{"key": []}, {}]
    return described


def _idempotency_key(key_required: bool) -> dict[str, Any]:
    shortest = 1 if key_required else SHORTEST_FREE_KEY
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key gives the same ranking again, however often it is sent, until an hour "
        f"after it was made. {shortest} to 255 characters; without an API key at least {SHORTEST_FREE_KEY}.",
        "schema": {"type": "string", "pattern": f"^[!#-~]{{{shortest},255}}$"},
    }


def _answers(one: Operation) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, content in one.answers.items():
        answer: dict[str, Any] = {"description": _DESCRIPTIONS.get(status, one.summary)}
        if isinstance(content, str):
            answer["content"] = {content: {"schema": _EVENT}}
        elif content is not None:
            answer["content"] = {"application/json": _schema(content)}
        if one.name == "submit":
            links = {
                name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
                for name in ("show", "cancel", "events")
            }
            answer |= {"headers": {"Location": _HEADER["Location"]}, "links": links}
        if status == 202:
            answer.setdefault("headers", {})
            answer["headers"] = {**answer["headers"], **_HEADER}
        answers[str(status)] = answer
    return answers


_DESCRIPTIONS: Final = {200: "Here it is.", 202: "Not ready yet: try again.", 204: "It is cancelled."}


def _problems(one: Operation) -> dict[str, Any]:
    codes = {"malformed", *(() if one.open else ("unauthorized",)), *one.problems}
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(KINDS[code][0], []).append(code)
    problems: dict[str, Any] = {}
    for status, names in sorted(by_status.items()):
        told = "; ".join(f"`{name}`: {KINDS[name][1]}" for name in names)
        problems[str(status)] = {"description": f"{told}.", "content": {MEDIA_TYPE: _schema(ProblemBody)}}
        if _RETRIED.issuperset(names) or status == 503:
            problems[str(status)]["headers"] = {"Retry-After": _HEADER["Retry-After"]}
    problems["default"] = {
        "description": "Another problem.",
        "content": {MEDIA_TYPE: _schema(ProblemBody)},
    }
    return problems


def _query_parameters(one: Operation) -> list[dict[str, Any]]:
    schema: dict[str, Any] = msgspec.json.schema_components([one.query], ref_template=_REF)[1][
        one.query.__name__
    ]
    parameters: list[dict[str, Any]] = []
    for name, found in schema["properties"].items():
        kept = {key: value for key, value in found.items() if key != "description"}
        parameter = {"name": name, "in": "query", "required": name in schema["required"], "schema": kept}
        if "description" in found:
            parameter["description"] = found["description"]
        parameters.append(parameter)
    return parameters


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, **described}
        for name, described in _PATH_PARAMETERS.items()
        if f"{{{name}}}" in path
    ]


def _schema(struct: Any) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(name=cast(type, struct).__name__)}}


def _is_struct(content: object) -> bool:
    return isinstance(content, type) and issubclass(content, msgspec.Struct)
