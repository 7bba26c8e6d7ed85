"""Where things lie in a folder laid out as Aachen Day-Night v1.0 or v1.1, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samfeat_hloc.errors import InputError, SamfeatError
from samfeat_hloc.formats.poses import Poses, read_poses
from samfeat_hloc.formats.queries import Query, read_queries
from samfeat_hloc.images import list_images

IMAGE_FOLDERS = ("images_upright", "images/images_upright")
MODEL_FOLDERS = ("3D-models/aachen_v_1_1", "3D-models", "3D-models/aachen_v_1_0")
NVM = "3D-models/aachen_cvpr2018_db.nvm"
INTRINSICS = "3D-models/database_intrinsics.txt"
PAIR_LISTS = ("image_pairs_to_match_v1_1.txt", "image_pairs_to_match.txt")
CONDITIONS = ("day", "night")
QUERY_LIST = "queries/{condition}_time_queries_with_intrinsics.txt"


@dataclass(frozen=True)
class AachenLayout:
    """The parts of such a folder.

    Attributes:
        root: the folder.
        images: the folder that image names are relative to; has ``db`` and ``query``.
        model: folder of the COLMAP reference model, or None when there is an NVM file instead (v1.0).
        nvm, intrinsics: the reference model of v1.0, or None.
        pair_list: the pairs of the local-feature track, or None.
        ground_truth: poses of the queries, or None (visuallocalization.net keeps them).
    """

    root: Path
    images: Path
    model: Path | None
    nvm: Path | None
    intrinsics: Path | None
    pair_list: Path | None
    ground_truth: Path | None

    @classmethod
    def find(cls, root: Path | str) -> AachenLayout:
        """Find the parts.

        Raises:
            InputError: no such folder, or images or reference model are missing; names what was looked for.
        """
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"the dataset {root} does not exist; give a folder in the layout of Aachen Day-Night")
        images = _first(root, IMAGE_FOLDERS)
        if images is None:
            looked = " or ".join(f"{folder}/" for folder in IMAGE_FOLDERS)
            raise InputError(f"{root} has no {looked}; expected the layout of Aachen Day-Night as downloaded")
        model = next((root / folder for folder in MODEL_FOLDERS if _is_model(root / folder)), None)
        nvm = root / NVM if (root / NVM).is_file() else None
        intrinsics = root / INTRINSICS if (root / INTRINSICS).is_file() else None
        if model is None and nvm is None:
            raise InputError(
                f"{root} has no reference model; expected cameras, images and points3D (.bin or .txt) in "
                f"{MODEL_FOLDERS[0]}, or {NVM}"
            )
        if model is None and intrinsics is None:
            raise InputError(f"{root} has {NVM} but no {INTRINSICS}; both belong to Aachen v1.0")
        truth = root / "ground_truth.txt"
        return cls(
            root, images, model, nvm, intrinsics, _first(root, PAIR_LISTS), truth if truth.is_file() else None
        )  # fmt: skip

    @property
    def version(self) -> str:
        """``v1.0`` with an NVM reference model, else ``v1.1``."""
        return "v1.0" if self.model is None else "v1.1"

    def queries(self, condition: str) -> list[Query]:
        """Queries of ``day`` or ``night``; none when there is no list.

        Raises:
            InputError: a malformed list.
        """
        path = self.root / QUERY_LIST.format(condition=condition)
        return read_queries(path) if path.is_file() else []

    def true_poses(self) -> Poses:
        """Ground truth of the queries; empty when there is none."""
        return read_poses(self.ground_truth) if self.ground_truth is not None else {}


def problems(root: Path | str) -> list[str]:
    """Everything that is wrong with a dataset, one sentence each; empty when it is complete."""
    try:
        layout = AachenLayout.find(root)
        on_disk = set(list_images(layout.images))
    except SamfeatError as error:
        return [str(error)]
    found: list[str] = []
    if not any(name.startswith("db/") for name in on_disk):
        found.append(f"{layout.images} has no images in db/; expected the database's photographs there")
    total = 0
    for condition in CONDITIONS:
        try:
            names = [query.name for query in layout.queries(condition)]
        except SamfeatError as error:
            found.append(str(error))
            continue
        total += len(names)
        missing = [name for name in names if name not in on_disk]
        if missing:
            found.append(
                f"{len(missing)} of {len(names)} {condition} queries are not in {layout.images}: {missing[0]} …"
            )
    if not total and not found:
        found.append(f"{layout.root} has no queries; expected {QUERY_LIST.format(condition='day')} or its night list")
    try:
        layout.true_poses()
    except SamfeatError as error:
        found.append(str(error))
    return found


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).exists()), None)


def _is_model(folder: Path) -> bool:
    stems = ("cameras", "images", "points3D")
    return any(all((folder / f"{stem}{ext}").is_file() for stem in stems) for ext in (".bin", ".txt"))
