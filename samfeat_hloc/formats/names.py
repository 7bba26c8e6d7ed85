"""Image names: what is allowed, the key of a pair, and the nearest name for an error message."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence

from samfeat_hloc.errors import InputError

SHOWN_NAMES = 3


def check_names(names: Iterable[str], source: str = "image list") -> None:
    """Reject names that cannot pass through pair lists and h5 groups.

    hloc's pair lists are split on white space, and h5 reads "/" as a group separator and folds "." and empty
    parts.

    Raises:
        InputError: a name that is empty, has white space, or is not a plain relative path; the message says
            which.
    """
    for name in names:
        if not name:
            raise InputError(f"{source}: an image name is empty; every image needs a name")
        if any(character.isspace() for character in name):
            raise InputError(
                f"{source}: the image name '{name}' has white space, and pair lists are split on it; rename the file"
            )
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise InputError(
                f"{source}: the image name '{name}' is not a plain path relative to the image folder; "
                "expected something like 'db/1.jpg'"
            )


def pair_key(name0: str, name1: str) -> str:
    """hloc's h5 group of a pair: `a/b.jpg`, `c.jpg` -> `a-b.jpg/c.jpg`."""
    return name0.replace("/", "-") + "/" + name1.replace("/", "-")


def check_pair_keys(pairs: Iterable[tuple[str, str]]) -> None:
    """Reject two different pairs that would share one group in matches.h5 ("/" is written as "-").

    A pair and its reverse are two pairs here: their keys differ unless the names themselves collide.

    Raises:
        InputError: naming the two pairs.
    """
    seen: dict[str, str] = {}
    for pair in pairs:
        for name in pair:
            other = seen.setdefault(name.replace("/", "-"), name)
            if other != name:
                raise InputError(
                    f"the image names '{other}' and '{name}' have one key in matches.h5, where '/' is "
                    "written as '-'; "
                    "rename one of them"
                )


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """The most similar of `names`, or None when nothing is similar: for error messages.

    A name that differs only in its folders comes first: a wrong image root is the usual cause.
    """
    known = list(names)
    same_base = [other for other in known if other.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]]
    near = difflib.get_close_matches(name, same_base or known, n=1, cutoff=0.0 if same_base else 0.4)
    return near[0] if near else None


def check_known(names: Sequence[str], known: Collection[str], source: str, holder: str) -> None:
    """Check that every name of `source` is in `known`, the names that `holder` has.

    Raises:
        InputError: with the number missing, the first few, and the nearest known name.
    """
    lookup = known if isinstance(known, (set, frozenset, dict)) else set(known)
    missing = list(dict.fromkeys(name for name in names if name not in lookup))
    if not missing:
        return
    shown = ", ".join(f"'{name}'" for name in missing[:SHOWN_NAMES])
    if len(missing) > SHOWN_NAMES:
        shown += ", ..."
    near = nearest_name(missing[0], known)
    if near:
        hint = f"the nearest name to '{missing[0]}' there is '{near}'"
    else:
        hint = f"it has {len(lookup)} names" + (f", the first is '{next(iter(known))}'" if lookup else "")
    raise InputError(
        f"{source}: {len(missing)} of {len(set(names))} images are not in {holder}: {shown}; {hint}; "
        "both must use names relative to one image folder"
    )
