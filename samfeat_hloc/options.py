"""COLMAP's mapper options from a plain dict or from KEY=VALUE words, with unknown names refused."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import ConfigError
from samfeat_hloc.formats.names import nearest_name


def mapper_options_from(values: Mapping[str, Any] | None) -> pycolmap.IncrementalPipelineOptions:
    """pycolmap's `IncrementalPipelineOptions` with these fields set; see `set_options`."""
    options = pycolmap.IncrementalPipelineOptions()
    set_options(options, values)
    return options


def set_options(options: Any, values: Mapping[str, Any] | None) -> None:
    """Set fields of one of pycolmap's option objects.

    A name is looked up in the options, then in the options they hold, the nearest first (`mapper`, then
    `mapper.bundle_adjustment`); a nested dict sets fields of the options it names.

    Raises:
        ConfigError: an unknown name (with the nearest known one), or a value of another type.
    """
    for key, value in (values or {}).items():
        holder = next((holder for holder in nested_options(options) if key in holder.todict(recursive=False)), None)
        if holder is None:
            _unknown(key, [name for known in nested_options(options) for name in known.todict(recursive=False)])
        inner = getattr(holder, key)
        if hasattr(inner, "todict") and isinstance(value, Mapping):
            set_options(inner, value)
        else:
            _set(holder, key, value)


def nested_options(options: Any) -> Iterator[Any]:
    """The options object and all that it holds, the nearest first."""
    waiting = [options]
    while waiting:
        holder = waiting.pop(0)
        yield holder
        held = [getattr(holder, name) for name in holder.todict(recursive=False)]
        waiting += [value for value in held if hasattr(value, "todict")]


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
    try:
        setattr(holder, key, value)
    except TypeError:
        kind = type(getattr(holder, key)).__name__
        raise ConfigError(f"the mapper option '{key}' is {value!r}; expected a value of type {kind}") from None


def _unknown(key: str, known: Iterable[str]) -> None:
    names = list(dict.fromkeys(known))
    near = nearest_name(key, names)
    hint = f"did you mean '{near}'?" if near else f"known: {', '.join(sorted(names))}"
    raise ConfigError(f"there is no mapper option '{key}'; {hint}")
