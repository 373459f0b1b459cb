"""Rewriting JSON schemas for models that understand only a part of JSON schema.

A transformer walks a schema from the leaves up and lets its `transform` change each level. It works on copies: the
schema given is never changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias, cast

from runmgr.exceptions import UserError

__all__ = ("InlineDefsJsonSchemaTransformer", "JsonSchema", "JsonSchemaTransformer")

JsonSchema: TypeAlias = dict[str, Any]

_DEFS = "#/$defs/"


class JsonSchemaTransformer(ABC):
    """Walks a schema and transforms each level.

    Args:
        schema: the schema; not changed.
        strict: what the tool or output asks for: True, False, or None to let the transformer find out.
        prefer_inlined_defs: put definitions where they are referred to; recursive ones stay references.
        simplify_nullable_unions: write ``anyOf [X, null]`` as X with ``nullable: true``.

    Attributes:
        is_strict_compatible: set to False by `transform` where the schema cannot be used in strict mode; a definition
            whose ``strict`` is None takes this value.
        defs: the schema's definitions; transformed once the walk is over.
        recursive_refs: definitions that refer to themselves, as found while inlining.
    """

    def __init__(
        self,
        schema: JsonSchema,
        *,
        strict: bool | None = None,
        prefer_inlined_defs: bool = False,
        simplify_nullable_unions: bool = False,
    ) -> None:
        self.schema = schema
        self.strict = strict
        self.is_strict_compatible = True
        self.prefer_inlined_defs = prefer_inlined_defs
        self.simplify_nullable_unions = simplify_nullable_unions
        self.defs: dict[str, JsonSchema] = schema.get("$defs", {})
        self.refs_stack: list[str] = []
        self.recursive_refs: set[str] = set()

    @abstractmethod
    def transform(self, schema: JsonSchema) -> JsonSchema:
        """Change one level, whose children have been transformed already; may change and return its argument."""

    def walk(self) -> JsonSchema:
        """The transformed schema.

        Raises:
            UserError: a reference names a definition that is not there (only found while inlining).
        """
        root = {key: value for key, value in self.schema.items() if key != "$defs"}
        handled = self._handle(root)
        if not self.prefer_inlined_defs:
            if self.defs:
                self.defs = {name: self._handle(value) for name, value in self.defs.items()}
                handled["$defs"] = self.defs
        elif self.recursive_refs:
            handled = self._keep_recursive(root, handled)
        return handled

    def _keep_recursive(self, root: JsonSchema, handled: JsonSchema) -> JsonSchema:
        """A schema whose recursive definitions are still references."""
        defs: dict[str, JsonSchema] = {}
        for name in sorted(self.recursive_refs):
            self.refs_stack.append(name)
            defs[name] = self._handle(dict(self.defs[name]))
            self.refs_stack.pop()
        ref = _ref_name(root)
        if ref is None or ref not in defs:
            # Providers that want references want the root to be one as well.
            ref = root.get("title", "root")
            defs[ref] = handled
        return {"$defs": defs, "$ref": _DEFS + ref}

    def _handle(self, schema: JsonSchema) -> JsonSchema:
        entered: list[str] = []
        if self.prefer_inlined_defs:
            while (name := _ref_name(schema)) is not None:
                if name in self.refs_stack:
                    self.recursive_refs.add(name)
                    break
                if name not in self.defs:
                    raise UserError(f"Could not find $ref definition for {name}")
                self.refs_stack.append(name)
                entered.append(name)
                # What stands beside the reference (a field's description, its default) is about this place.
                beside = {key: value for key, value in schema.items() if key != "$ref"}
                schema = {**self.defs[name], **beside}
        kind = schema.get("type")
        if kind == "object":
            schema = self._handle_object(schema)
        elif kind == "array":
            schema = self._handle_array(schema)
        elif kind is None:
            for key in ("anyOf", "oneOf"):
                if key in schema:
                    schema = self._handle_union(schema, key)
            if "allOf" in schema:
                schema = {**schema, "allOf": [self._child(member) for member in schema["allOf"]]}
        result = self.transform(dict(schema))
        del self.refs_stack[len(self.refs_stack) - len(entered) :]
        return result

    def _child(self, schema: Any) -> Any:
        # `true` and `false` are schemas too.
        return self._handle(cast("JsonSchema", schema)) if isinstance(schema, dict) else schema

    def _handle_object(self, schema: JsonSchema) -> JsonSchema:
        schema = dict(schema)
        for key in ("properties", "patternProperties"):
            if members := schema.get(key):
                schema[key] = {name: self._child(value) for name, value in members.items()}
        if "additionalProperties" in schema:
            schema["additionalProperties"] = self._child(schema["additionalProperties"])
        return schema

    def _handle_array(self, schema: JsonSchema) -> JsonSchema:
        schema = dict(schema)
        if prefix := schema.get("prefixItems"):
            schema["prefixItems"] = [self._child(item) for item in prefix]
        if "items" in schema:
            schema["items"] = self._child(schema["items"])
        return schema

    def _handle_union(self, schema: JsonSchema, key: str) -> JsonSchema:
        members: list[Any] = [self._child(member) for member in schema[key]]
        beside = {name: value for name, value in schema.items() if name != key}
        if self.simplify_nullable_unions:
            members = _simplify_nullable(members)
        if len(members) == 1 and isinstance(members[0], dict):
            return {**members[0], **beside}
        return {**beside, key: members}


def _simplify_nullable(members: list[Any]) -> list[Any]:
    if len(members) == 2 and {"type": "null"} in members:
        other = next((member for member in members if member != {"type": "null"}), None)
        if isinstance(other, dict):
            return [{**cast("JsonSchema", other), "nullable": True}]
    return members


def _ref_name(schema: JsonSchema) -> str | None:
    ref = schema.get("$ref")
    return ref[len(_DEFS) :] if isinstance(ref, str) and ref.startswith(_DEFS) else None


class InlineDefsJsonSchemaTransformer(JsonSchemaTransformer):
    """Puts definitions where they are referred to, for models that don't follow references."""

    def __init__(self, schema: JsonSchema, *, strict: bool | None = None) -> None:
        super().__init__(schema, strict=strict, prefer_inlined_defs=True)

    def transform(self, schema: JsonSchema) -> JsonSchema:
        return schema
