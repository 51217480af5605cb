"""`clients/js/src/schema.ts`: the schemas of the sockets as types, so that the client cannot drift from the server."""

import json
from collections.abc import Iterator
from typing import Any

from notifications.asyncapi import EVENTS, OPERATIONS, Schema, schemas

_HEADER = """\
// Written by `manage.py document_sockets` from the serializers and notifications/asyncapi.py: change those instead.
"""
_NAMES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def types_document() -> str:
    """The whole text."""
    return _HEADER + "\n".join(_declarations())


def _declarations() -> Iterator[str]:
    for name, schema in schemas().items():
        yield ""
        if "enum" not in schema and schema.get("description"):
            yield f"/** {schema['description']} */"
        if schema.get("properties") and schema.get("additionalProperties") is False:
            yield f"export interface {name} {_type(schema)}"
        else:
            yield f"export type {name} = {_type(schema)};"
    yield ""
    yield "/** What each event carries. */"
    yield "export interface ServerEvents {"
    yield from (f"  {json.dumps(event)}: {component};" for event, component in EVENTS.items())
    yield "}"
    yield ""
    yield "/** What each operation takes, and what its answer has. */"
    yield "export interface Operations {"
    for operation, (_, arguments, answer) in OPERATIONS.items():
        answer = {**answer, "properties": {k: v for k, v in answer["properties"].items() if k != "ok"}}
        yield f"  {json.dumps(operation)}: {{"
        yield f"    arguments: {_type(arguments, 2)};"
        yield f"    answer: {_type(answer, 2)};"
        yield "  };"
    yield "}"
    yield ""


def _type(schema: Schema, depth: int = 0) -> str:
    match schema:
        case {"$ref": reference}:
            return str(reference).rsplit("/", 1)[1]
        case {"const": value}:
            return json.dumps(value)
        case {"enum": values}:
            return " | ".join(json.dumps(value) for value in values)
        case {"oneOf": forms} | {"anyOf": forms} | {"allOf": forms}:
            return " | ".join(dict.fromkeys(_type(form, depth) for form in forms))
        case {"type": [*names]}:
            return " | ".join(_type({**schema, "type": name}, depth) for name in names)
        case {"type": "array", "items": items}:
            inner = _type(items, depth)
            return f"({inner})[]" if "|" in inner else f"{inner}[]"
        case {"type": "object"}:
            return _object(schema, depth)
        case {"type": name}:
            return _NAMES[name]
    raise ValueError(f"No type for {schema}")


def _object(schema: dict[str, Any], depth: int) -> str:
    indent, required = "  " * (depth + 1), schema.get("required", ())
    lines = []
    for name, inner in schema.get("properties", {}).items():
        if inner.get("description") and "$ref" not in inner:
            lines.append(f"{indent}/** {inner['description']} */")
        lines.append(f"{indent}{name}{'' if name in required else '?'}: {_type(inner, depth + 1)};")
    if schema.get("additionalProperties") is not False:
        lines.append(f"{indent}[name: string]: unknown;")
    return "{\n" + "\n".join(lines) + f"\n{'  ' * depth}}}" if lines else "Record<string, never>"
