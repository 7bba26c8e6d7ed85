"""COLMAP's mapper options from a plain dict or from KEY=VALUE words, with unknown names refused."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import ConfigError
from samfeat_hloc.formats.names import nearest_name

NESTED = ("mapper", "triangulation")


def mapper_options_from(values: Mapping[str, Any] | None) -> pycolmap.IncrementalPipelineOptions:
    """pycolmap's `IncrementalPipelineOptions` with these fields set.

    A name is looked up in the pipeline's options, then in its `mapper` and `triangulation` options; a nested dict sets
    fields of one of these two.

    Raises:
        ConfigError: an unknown name (with the nearest known one), or a value of another type.
    """
    options = pycolmap.IncrementalPipelineOptions()
    for key, value in (values or {}).items():
        if key in NESTED and isinstance(value, Mapping):
            for name, inner in value.items():
                _set(getattr(options, key), name, inner)
            continue
        holders = [options, *(getattr(options, name) for name in NESTED)]
        holder = next((holder for holder in holders if key in holder.todict()), None)
        if holder is None:
            _unknown(key, [name for known in holders for name in known.todict()])
        _set(holder, key, value)
    return options


def parse_options(words: Iterable[str]) -> dict[str, Any]:
    """`["min_angle=2.0"]` as `{"min_angle": 2.0}`; a value that is no Python literal is a string.

    Raises:
        ConfigError: a word without `=`.
    """
    parsed: dict[str, Any] = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not separator:
            raise ConfigError(f"the option '{word}' has no value; expected KEY=VALUE")
        try:
            parsed[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parsed[key] = text
    return parsed


def _set(holder: Any, key: str, value: Any) -> None:
    if key not in holder.todict():
        _unknown(key, holder.todict())
    try:
        setattr(holder, key, value)
    except TypeError:
        kind = type(getattr(holder, key)).__name__
        raise ConfigError(f"the mapper option '{key}' is {value!r}; expected a value of type {kind}") from None


def _unknown(key: str, known: Iterable[str]) -> None:
    names = list(known)
    near = nearest_name(key, names)
    hint = f"did you mean '{near}'?" if near else f"known: {', '.join(sorted(names))}"
    raise ConfigError(f"there is no mapper option '{key}'; {hint}")
