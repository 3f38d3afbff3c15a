"""A JSON Schema of config.toml, from the settings classes of what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from plb_core.budget import Budget
from plb_core.errors import PluginError
from plb_core.loader import Loader
from plb_core.sections import (
    INSTANCE_KINDS,
    BackendTable,
    BreakerSettings,
    Kind,
    OverloadSettings,
    PluginPolicy,
    Route,
    Routing,
    Track,
)
from plb_core.settings import EnvVar
from plb_core.source import read_source

Schema = dict[str, Any]

_SIMPLE: Mapping[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    date: {"type": "string", "format": "date"},
    EnvVar: {"type": "string", "description": "name of an environment variable"},
}


def config_schema(loader: Loader) -> tuple[Schema, list[str]]:
    """Return the schema, and a line for each plugin that could not be loaded.

    Imports every installed and allowed plugin, to read its settings class.
    """
    failures: list[str] = []
    kinds: dict[str, Schema] = {}
    for plugin in loader.installed():
        if not plugin.allowed:
            continue
        for kind in read_source(plugin.module).kinds:
            try:
                provider = loader.provider(_as_kind(kind), plugin.name)
            except PluginError as error:
                failures.append(str(error))
                continue
            kinds.setdefault(kind, {})[plugin.name] = provider.settings
    sections: Schema = {
        "routing": class_schema(Routing),
        "plugins": class_schema(PluginPolicy),
        "budget": class_schema(Budget),
        "breaker": class_schema(BreakerSettings),
        "overload": class_schema(OverloadSettings),
        "track": _named(class_schema(Track)),
        "route": _named(class_schema(Route)),
        "backend": _named(_any_plugin(kinds.get("backend", {}), BackendTable)),
    }
    for kind in INSTANCE_KINDS:
        sections[kind] = _named(_any_plugin(kinds.get(kind, {}), None))
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "plb configuration",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
    }
    return schema, failures


def class_schema(cls: type) -> Schema:
    """Return the schema of one settings class."""
    attrs.resolve_types(cls, include_extras=False)
    properties: Schema = {}
    required = []
    for field in attrs.fields(cls):
        schema = dict(type_schema(field.type))
        if "doc" in field.metadata:
            schema["description"] = field.metadata["doc"]
        if field.default is attrs.NOTHING:
            required.append(field.name)
        elif isinstance(field.default, str | int | float | bool):
            schema["default"] = field.default
        properties[field.name] = schema
    made: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if required:
        made["required"] = required
    return made


def type_schema(kind: Any) -> Schema:
    """Return the schema of one field's type."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, type) and attrs.has(kind):
        return class_schema(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        options = [type_schema(each) for each in arguments if each is not type(None)]
        return options[0] if len(options) == 1 else {"anyOf": options}
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return {"type": "array", "items": type_schema(arguments[0])}
        return {
            "type": "array",
            "prefixItems": [type_schema(each) for each in arguments],
            "minItems": len(arguments),
            "maxItems": len(arguments),
        }
    if origin in (dict, Mapping):
        return {
            "type": "object",
            "additionalProperties": type_schema(arguments[1]),
        }
    return {}


def _any_plugin(settings: Mapping[str, type], common: type | None) -> Schema:
    """Return a section that may belong to any of these plugins.

    Keys of all plugins are offered: which plugin it is may follow from the section's
    name, which JSON Schema cannot express.
    """
    properties: Schema = dict(class_schema(common)["properties"]) if common else {}
    properties["plugin"] = {"type": "string"}
    for cls in settings.values():
        for name, schema in class_schema(cls)["properties"].items():
            known = properties.setdefault(name, schema)
            if known != schema:
                properties[name] = {"description": schema.get("description", "")}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": not settings,
    }


def _named(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def _as_kind(kind: str) -> Kind:
    return kind  # type: ignore[return-value]  # the loader refuses unknown ones
