"""Configurations are frozen dataclasses; this builds one from a dict and refuses what it does not know."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from samfeat_hloc.errors import ConfigError

T = TypeVar("T")


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the frozen dataclass `cls`; fields that are not in `values` keep their defaults.

    Raises:
        ConfigError: an unknown key (the message names the nearest known one) or a value of another type.
    """
    if not (dataclasses.is_dataclass(cls) and isinstance(cls, type)):
        raise TypeError(f"{cls!r} is not a dataclass")
    fields = {field.name for field in dataclasses.fields(cls) if field.init}
    hints = typing.get_type_hints(cls)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(sorted(fields))}"
            raise ConfigError(f"{cls.__name__} has no key '{key}'; {hint}")
        checked[key] = _convert(cls, key, value, hints[key])
    return cls(**checked)  # defaults fill the rest


def resolve(
    kind: str, conf: str | Mapping[str, Any], modules: Mapping[str, str], overrides: Mapping[str, Any]
) -> tuple[str, Any]:
    """Resolve a conf given by name, as a dict with "name" and changed fields, or in hloc's form.

    hloc's form is `{"model": {"name": ..., ...}, "preprocessing": {...}, "output": ...}`; the preprocessing
    fields are fields of the conf here.

    Args:
        kind: "extractor" or "matcher", for messages.
        conf: what the user gave.
        modules: conf name -> module that has `CONFS`, a dict of frozen dataclasses by name.
        overrides: fields that replace those of `conf`.

    Returns:
        the name and the dataclass.

    Raises:
        ConfigError: unknown name or key, or a bad value.
    """
    if isinstance(conf, str):
        conf = {"name": conf}
    fields = {**conf["model"], **conf.get("preprocessing", {})} if "model" in conf else dict(conf)
    name = fields.pop("name", None)
    if name not in modules:
        near = difflib.get_close_matches(str(name), modules, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(modules))}"
        raise ConfigError(f"there is no {kind} called '{name}'; {hint}")
    base = importlib.import_module(modules[name]).CONFS[name]
    values = {field.name: getattr(base, field.name) for field in dataclasses.fields(base) if field.init}
    return name, from_dict(type(base), {**values, **fields, **overrides})


def to_dict(conf: Any) -> dict[str, Any]:
    """The dataclass as plain JSON values, for file attributes and signatures."""
    return _plain(dataclasses.asdict(conf))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _convert(cls: type, key: str, value: Any, expected: Any) -> Any:
    """Check `value` against the annotation; int becomes float and list tuple where the field wants them."""
    origin = typing.get_origin(expected)
    if expected is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(expected):
            try:
                return _convert(cls, key, value, option)
            except ConfigError:
                continue
    elif origin is typing.Literal:
        if value in typing.get_args(expected):
            return value
    elif expected is type(None):
        if value is None:
            return None
    elif dataclasses.is_dataclass(expected) and isinstance(expected, type):
        if isinstance(value, expected):
            return value
        if isinstance(value, Mapping):
            return from_dict(expected, value)
    elif origin is tuple:
        items = typing.get_args(expected)
        if isinstance(value, (list, tuple)) and items[1:] == (Ellipsis,):
            return tuple(_convert(cls, key, item, items[0]) for item in value)
        if isinstance(value, (list, tuple)):
            return tuple(value)
    elif expected is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif expected is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(origin or expected, type) and isinstance(value, origin or expected):
        return value
    wanted = getattr(expected, "__name__", None) if origin is None else None
    raise ConfigError(f"{cls.__name__}.{key} is {value!r}; expected {wanted or str(expected).replace('typing.', '')}")
