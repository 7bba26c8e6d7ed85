"""One self-contained page that shows a scene in any browser: no server, no network, nothing to install.

The page holds at most `MAX_PAGE_BYTES`. What does not fit is thinned out evenly, and the page says so.
"""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.progress import progress
from samfeat_hloc.viewing.framing import FIELD_OF_VIEW_DEG, default_view, frustum_depth
from samfeat_hloc.viewing.photographs import photographs_of, thumbnail
from samfeat_hloc.viewing.scene import Cameras, FloatArray, IntArray, Points, Scene

MAX_PAGE_BYTES = 40_000_000
"""With every limit below reached: points 5 MB, observations 5.4 MB, cloud 10 MB, cameras 5 MB, photographs 12 MB."""
SCRIPTS = ("algebra.js", "scene.js", "webgl.js", "canvas.js", "orbit.js", "viewer.js")


@dataclass(frozen=True)
class Limits:
    """How much of a scene goes into a page.

    Attributes:
        points: points of the model.
        observations: pairs of a camera and a point that it observes.
        cloud: points of the dense cloud.
        cameras: cameras, database and queries each.
        photograph_bytes: all thumbnails together, as JPEG; base64 makes them a third larger.
        largest_photograph_bytes: one thumbnail.
        smallest_photograph_bytes: where less is left for each camera, every k-th camera gets a thumbnail.
    """

    points: int = 250_000
    observations: int = 1_000_000
    cloud: int = 500_000
    cameras: int = 15_000
    photograph_bytes: int = 9_000_000
    largest_photograph_bytes: int = 60_000
    smallest_photograph_bytes: int = 2_500


@dataclass
class _Thinned:
    """A scene within the limits, and what the page says about it."""

    points: Points
    cloud: Points
    database: Cameras
    queries: Cameras
    sees: IntArray
    notes: list[str] = field(default_factory=list)


def write_page(path: Path | str, scene: Scene, images: Path | str | None = None, limits: Limits | None = None) -> None:
    """Write a scene as a page; the file is whole or absent.

    Args:
        path: the .html file.
        scene: what it shows.
        images: folder of the photographs, for thumbnails.
        limits: how much of it.

    Raises:
        InputError: none of the photographs is in `images`.
    """
    limits = limits or Limits()
    thinned = _thin(scene, limits)
    names = (*thinned.database.names, *thinned.queries.names)
    photographs = _thumbnails(names, photographs_of(images, names) if images is not None else {}, limits)
    if photographs and (without := len(names) - len(photographs)):
        thinned.notes.append(f"{without:,} of {len(names):,} photographs are not in this page")
    view = default_view(scene, cameras=True)
    everything = np.concatenate(
        [thinned.points.xyz, thinned.cloud.xyz, thinned.database.centres, scene.queries.centres]
    )
    distances = np.linalg.norm(everything - view.target, axis=1)
    data = {
        "facts": [*scene.facts, *thinned.notes],
        "view": {
            "eye": (view.eye - view.target).tolist(),
            "target": [0, 0, 0],  # the page's origin, so that 32 bits are enough wherever the model lies
            "up": view.up.tolist(),
            "radius": view.radius,
            "fieldOfView": FIELD_OF_VIEW_DEG,
        },
        "frustum": frustum_depth(scene),
        "farthest": float(distances[np.isfinite(distances)].max(initial=view.radius)),
        "points": _points(thinned.points, view.target),
        "cloud": _points(thinned.cloud, view.target),
        "database": _cameras(thinned.database, view.target, thinned.sees, photographs),
        "queries": _cameras(thinned.queries, view.target, np.zeros(len(thinned.queries), np.int64), photographs),
        "paths": [_encode(line - view.target, "<f4") for line in scene.paths],
    }
    with replace_file(path) as temporary:
        temporary.write_text(_fill_template(scene.title, data), encoding="utf-8")


def _fill_template(title: str, data: dict[str, Any]) -> str:
    folder = resources.files("samfeat_hloc.viewing") / "page"
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (folder / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
        # a name with "</script>" in it must not end the element
        "SCENE": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e"),
    }
    template = (folder / "page.html").read_text(encoding="utf-8")
    # one pass, so that a name with a placeholder in it stays a name
    return re.sub(r"%([A-Z]+)%", lambda match: parts[match.group(1)], template)


def _thin(scene: Scene, limits: Limits) -> _Thinned:
    notes: list[str] = []
    database, queries = (
        _thin_cameras(cameras, limits.cameras, kind, notes)
        for cameras, kind in ((scene.database, "cameras"), (scene.queries, "queries"))
    )
    sees = np.diff(database.offsets)
    total = len(scene.points)
    share = min(1.0, limits.points / max(total, 1), limits.observations / max(len(database.observed), 1))
    kept = np.arange(total)
    if share < 1:
        rng = np.random.default_rng(0)
        kept = np.sort(rng.permutation(total)[: max(1, int(share * total))])
        new_index = np.full(total, -1, np.int64)
        new_index[kept] = np.arange(len(kept))
        parts = [new_index[database.points_of(index)] for index in range(len(database))]
        database = Cameras.make(
            database.names, database.rotations, database.centres, database.corners, [part[part >= 0] for part in parts]
        )
        notes.append(f"{len(kept):,} of {total:,} points are in this page, drawn at random")
        if len(database.observed) > limits.observations:  # chance put a few too many on the cameras
            cut = np.minimum(database.offsets, limits.observations)
            database = Cameras(
                database.names,
                database.rotations,
                database.centres,
                database.corners,
                cut,
                database.observed[: cut[-1]],
            )
    cloud = scene.cloud
    if len(cloud) > limits.cloud:
        cloud = cloud.take(np.sort(np.random.default_rng(1).permutation(len(cloud))[: limits.cloud]))
        notes.append(f"{len(cloud):,} of {len(scene.cloud):,} points of the dense cloud are in this page")
    return _Thinned(scene.points.take(kept), cloud, database, queries, sees, notes)


def _thin_cameras(cameras: Cameras, limit: int, kind: str, notes: list[str]) -> Cameras:
    if len(cameras) <= limit:
        return cameras
    notes.append(f"{limit:,} of {len(cameras):,} {kind} are in this page")
    return cameras.take(np.linspace(0, len(cameras) - 1, limit).astype(np.int64))


def _thumbnails(names: tuple[str, ...], paths: dict[str, Path], limits: Limits) -> dict[str, tuple[str, int]]:
    """Base64 of a JPEG and EXIF orientation, by name, of the photographs that get one."""
    chosen = [name for name in names if name in paths]
    most = max(1, limits.photograph_bytes // limits.smallest_photograph_bytes)
    if len(chosen) > most:
        chosen = [chosen[index] for index in np.linspace(0, len(chosen) - 1, most).astype(int)]
    if not chosen:
        return {}
    budget = min(limits.largest_photograph_bytes, limits.photograph_bytes // len(chosen))
    found: dict[str, tuple[str, int]] = {}
    for name in progress(chosen, total=len(chosen), desc="thumbnails", unit="image"):
        content, orientation = thumbnail(paths[name], budget)
        if content:
            found[name] = (base64.b64encode(content).decode(), orientation)
    return found


def _points(points: Points, origin: FloatArray) -> dict[str, str]:
    return {"xyz": _encode(points.xyz - origin, "<f4"), "rgb": _encode(points.rgb, "u1")}


def _cameras(
    cameras: Cameras, origin: FloatArray, sees: IntArray, photographs: dict[str, tuple[str, int]]
) -> dict[str, Any]:
    found = [photographs.get(name, ("", 1)) for name in cameras.names]
    return {
        "names": list(cameras.names),
        "centres": _encode(cameras.centres - origin, "<f4"),
        "corners": _encode(np.einsum("cij,ckj->cki", cameras.rotations, cameras.corners), "<f4"),
        "offsets": _encode(cameras.offsets, "<u4"),
        "observed": _encode(cameras.observed, "<u4"),
        "sees": sees.tolist(),
        "thumbnails": [content for content, _ in found],
        "orientation": [orientation for _, orientation in found],
    }


def _encode(values: npt.NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()
