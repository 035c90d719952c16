"""A checker for the part of JSON Schema that ``docs/openapi.json`` uses; stricter: unknown fields are violations."""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_KNOWN = {
    "$ref",
    "additionalProperties",
    "anyOf",
    "default",
    "description",
    "enum",
    "items",
    "properties",
    "required",
    "title",
    "type",
}


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "answer") -> list[str]:
    """List what in ``value`` does not match; ``root`` is the document that references point into."""
    if unknown := set(schema) - _KNOWN:
        return [f"{where}: the schema uses {sorted(unknown)}, which this checker does not know"]
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return violations(value, target, root, where)
    if "anyOf" in schema:
        choices = [violations(value, choice, root, where) for choice in schema["anyOf"]]
        return min(choices, key=len)
    if "type" in schema and not _is(value, schema["type"]):
        return [f"{where}: not of type {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is none of {schema['enum']}"]
    return _inner_violations(value, schema, root, where)


def _inner_violations(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str) -> list[str]:
    found = []
    for number, item in enumerate(value if "items" in schema else ()):
        found += violations(item, schema["items"], root, f"{where}[{number}]")
    more = schema.get("additionalProperties")
    if "properties" not in schema and more is None:
        return found
    found += [f"{where}: has no {name}" for name in schema.get("required", ()) if name not in value]
    for name, field in value.items():
        if name in schema.get("properties", ()):
            found += violations(field, schema["properties"][name], root, f"{where}.{name}")
        elif more:
            found += violations(field, more, root, f"{where}.{name}")
        else:
            found.append(f"{where}: has {name}, which the description does not know")
    return found


def _is(value: Any, name: str) -> bool:
    # To Python True is an int; to JSON it is not.
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
