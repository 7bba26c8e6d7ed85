"""Pair lists: hloc's text file, `NAME0 NAME1` a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import check_names

Pair = tuple[str, str]


def unique_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs in their order, without repetitions; (b, a) after (a, b) is one."""
    seen: set[Pair] = set()
    unique: list[Pair] = []
    for name0, name1 in pairs:
        if (name0, name1) not in seen and (name1, name0) not in seen:
            seen.add((name0, name1))
            unique.append((name0, name1))
    return unique


def read_pairs(path: Path | str) -> list[Pair]:
    """All pairs of the file in order, exact repetitions dropped (a pair and its reverse are both kept).

    Raises:
        InputError: no such file, no pair in it, or a line that is not two names; the message has file and
            line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the pair list {path} does not exist; make it with a pairs_from_... stage")
    pairs: dict[Pair, None] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2:
            raise InputError(
                f"{path}:{number}: '{line}' has {len(parts)} words; expected two image names without white space"
            )
        check_names(parts, f"{path}:{number}")
        if parts[0] == parts[1]:
            raise InputError(f"{path}:{number}: '{parts[0]}' is paired with itself; remove the line")
        pairs[(parts[0], parts[1])] = None
    if not pairs:
        raise InputError(f"the pair list {path} is empty; check the stage that made it")
    return list(pairs)


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> None:
    """Write the pairs in their order, exact repetitions dropped; the file is whole or absent.

    Raises:
        InputError: a name that a pair list cannot hold.
    """
    unique = list(dict.fromkeys(pairs))
    check_names((name for pair in unique for name in pair), str(path))
    with replace_file(path) as temporary:
        temporary.write_text("".join(f"{name0} {name1}\n" for name0, name1 in unique))


def retrieved(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """First image -> its second images, in the list's order."""
    groups: dict[str, list[str]] = {}
    for name0, name1 in pairs:
        groups.setdefault(name0, []).append(name1)
    return groups
