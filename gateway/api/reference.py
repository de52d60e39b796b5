"""The contract as a page to read: made here from the OpenAPI document, with no script and nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def page(document: Mapping[str, Any]) -> str:
    """The page (HTML)."""
    environment = Environment(
        loader=PackageLoader("gateway.api"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.lstrip_blocks = True
    environment.filters.update(code=_code, json=_json, kind=_kind, name=_name, said=_said)
    return environment.get_template("reference.html").render(document=document, by_tag=_by_tag(document))


def _by_tag(document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The operations with their method and path, under the name of their group, in the document's order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append({"method": method, "path": path, **operation})
    return groups


def _code(text: str) -> Markup:
    """Text in which `…` is code, and an empty line begins a paragraph."""
    parts = str(escape(text)).split("`")
    marked = "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
    return Markup("".join(f"<p>{paragraph}</p>" for paragraph in marked.split("\n\n")))  # noqa: S704  escaped above


def _json(value: Any) -> str:
    return json.dumps(value, indent=2)


def _name(schema: Mapping[str, Any]) -> str | None:
    """The name of the schema that is referred to, directly or as an item."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for part in (schema.get("items"), schema.get("additionalProperties"), *schema.get("anyOf", ())):
        if isinstance(part, Mapping) and (found := _name(part)) is not None:
            return found
    return None


def _said(schema: Mapping[str, Any]) -> str:
    """What a member's schema says of it, itself or as what it may be beside null."""
    parts = [schema, *schema.get("anyOf", ())]
    return next((str(part["description"]) for part in parts if "description" in part), "")


def _kind(schema: Mapping[str, Any]) -> str:
    """What kind of value a schema allows, in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"{_kind(schema['additionalProperties'])} by name"
    return str(schema.get("format") or schema.get("type", "anything"))
