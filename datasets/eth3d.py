"""Scenes in the layout of the ETH3D multi-view benchmark, as its archives unpack.

    SCENE/images/dslr_images_undistorted/*.JPG           or dslr_images (distorted)
    SCENE/dslr_calibration_undistorted/cameras.txt …     COLMAP text model with PINHOLE cameras;
                                                         dslr_calibration_jpg: THIN_PRISM_FISHEYE
    SCENE/dslr_scan_eval/scan_alignment.mlp              MeshLab project: each scan*.ply with world_from_scan (4x4)

Image names are relative to SCENE/images; lengths are metres. The test scenes have neither scans nor true poses.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from samfeat_hloc._pycolmap import is_model, pycolmap, read_model
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.cloud_evaluation import Scan
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.ply import read_ply

IMAGES = "images"
VARIANTS = {
    "undistorted": ("dslr_calibration_undistorted", "dslr_images_undistorted"),
    "distorted": ("dslr_calibration_jpg", "dslr_images"),
}
"""Variant -> its calibration's folder in the scene and its photographs' folder in images."""
SCANS = "dslr_scan_eval"
ALIGNMENT = "scan_alignment.mlp"
RIGID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Eth3dScene:
    """One scene, opened and checked.

    Attributes:
        root: its folder.
        variant: "undistorted" or "distorted".
        model: calibration: cameras and poses, true where the benchmark gives them.
    """

    root: Path
    variant: str
    model: pycolmap.Reconstruction

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.root.resolve().name

    @property
    def image_dir(self) -> Path:
        """Root of the image names."""
        return self.root / IMAGES

    @property
    def calibration(self) -> Path:
        """Folder of the COLMAP model."""
        return self.root / VARIANTS[self.variant][0]

    @property
    def image_names(self) -> list[str]:
        """Sorted."""
        return sorted(str(image.name) for image in self.model.images.values())

    @classmethod
    def open(cls, root: Path | str, variant: str | None = None) -> Eth3dScene:
        """Open a scene.

        Args:
            root: its folder.
            variant: "undistorted" or "distorted"; None: the first that is there.

        Raises:
            InputError: no calibration, an image that is missing, unreadable, or of another size than its camera.
        """
        root = Path(root)
        wanted = [variant] if variant else list(VARIANTS)
        found = [name for name in wanted if is_model(root / VARIANTS[name][0])]
        if not found:
            expected = " or ".join(VARIANTS[name][0] for name in wanted)
            raise InputError(
                f"{root} has no calibration; expected {expected} with cameras.txt, images.txt and points3D.txt (unpack "
                "ETH3D's archive there)"
            )
        scene = cls(root, found[0], read_model(root / VARIANTS[found[0]][0]))
        if not scene.model.images:
            raise InputError(f"the calibration {scene.calibration} lists no image; unpack ETH3D's archive again")
        scene._check_images()
        return scene

    def _check_images(self) -> None:
        for image in self.model.images.values():
            path, camera = self.image_dir / image.name, self.model.cameras[image.camera_id]
            if not path.is_file():
                raise InputError(f"{self.calibration} names {image.name}, which is not in {self.image_dir}")
            try:
                with Image.open(path) as opened:
                    size = opened.size
            except Exception as error:  # Pillow raises half a dozen types on damaged files
                raise InputError(f"{path} cannot be read as an image ({error}); replace the file") from None
            if size != (camera.width, camera.height):
                raise InputError(
                    f"{path} has {size[0]}x{size[1]} pixels and its camera {camera.width}x{camera.height}; take the "
                    f"calibration of these images (this is the {self.variant} one)"
                )

    def scan_files(self) -> list[Path]:
        """The alignment file and the scans it names.

        Raises:
            InputError: no alignment file, a damaged one, or a scan that is missing.
        """
        path = self.root / SCANS / ALIGNMENT
        if not path.is_file():
            raise InputError(
                f"{self.root} has no laser scan; expected {SCANS}/{ALIGNMENT} with its scan*.ply (ETH3D's archive "
                "SCENE_dslr_scan_eval), or skip the comparison of clouds (--no-clouds)"
            )
        files = [path.parent / file for file, _ in read_alignment(path)]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise InputError(f"{path} names {missing[0].name}, which is not beside it; unpack the scans again")
        return [path, *files]

    def scans(self) -> list[Scan]:
        """The laser scans.

        Raises:
            InputError: as of `scan_files`, or a scan that is damaged.
        """
        path = self.scan_files()[0]
        return [Scan(file, read_ply(path.parent / file).points, transform) for file, transform in read_alignment(path)]


def find_scenes(dataset: Path | str, variant: str | None = None) -> list[Path]:
    """Folders of the scenes in `dataset`, sorted, or `dataset` itself when it is one.

    Raises:
        InputError: no such folder, or no scene in it.
    """
    dataset = Path(dataset)
    if not dataset.is_dir():
        raise InputError(f"the dataset {dataset} does not exist; check the path")
    folders = [VARIANTS[name][0] for name in ([variant] if variant else VARIANTS)]

    def is_scene(path: Path) -> bool:
        return any((path / folder).is_dir() for folder in folders)

    if is_scene(dataset) or (dataset / IMAGES).is_dir():
        return [dataset]
    scenes = sorted(path for path in dataset.iterdir() if path.is_dir() and is_scene(path))
    if not scenes:
        raise InputError(
            f"{dataset} has no ETH3D scene; expected a folder with {' or '.join(folders)} and {IMAGES}, or a folder of "
            "such scenes"
        )
    return scenes


def read_alignment(path: Path) -> list[tuple[str, np.ndarray]]:
    """File name and (4, 4) world_from_scan of each scan of a MeshLab project.

    Raises:
        InputError: no XML, no scan in it, or a matrix that is no rigid transform.
    """
    try:
        tree = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise InputError(f"{path} cannot be read as a MeshLab project ({error}); copy it again") from None
    found = []
    for mesh in tree.findall("MeshGroup/MLMesh"):
        file = mesh.get("filename") or ""
        try:
            numbers = np.array([float(word) for word in mesh.findtext("MLMatrix44", "").split()])
        except ValueError:
            numbers = np.zeros(0)
        if not file or len(numbers) != 16 or not _is_rigid(numbers.reshape(4, 4)):
            raise InputError(f"{path}: scan '{file}' has no rigid 4x4 MLMatrix44; copy the file again")
        found.append((file, numbers.reshape(4, 4)))
    if not found:
        raise InputError(f"{path} has no scan; expected MeshLabProject/MeshGroup/MLMesh elements")
    return found


def write_alignment(path: Path, scans: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write file names and (4, 4) world_from_scan as a MeshLab project."""
    project = ElementTree.Element("MeshLabProject")
    group = ElementTree.SubElement(project, "MeshGroup")
    for file, transform in scans:
        mesh = ElementTree.SubElement(group, "MLMesh", label=Path(file).stem, filename=file)
        rows = [" ".join(f"{value:.12g}" for value in row) for row in transform]
        ElementTree.SubElement(mesh, "MLMatrix44").text = "\n" + "\n".join(rows) + "\n"
    ElementTree.SubElement(project, "RasterGroup")
    with replace_file(path) as temporary:
        temporary.write_bytes(b"<!DOCTYPE MeshLabDocument>\n" + ElementTree.tostring(project) + b"\n")


def _is_rigid(matrix: np.ndarray) -> bool:
    rotation = matrix[:3, :3]
    near = np.allclose(rotation @ rotation.T, np.eye(3), atol=RIGID_TOLERANCE) and np.linalg.det(rotation) > 0
    return bool(np.isfinite(matrix).all() and near and np.allclose(matrix[3], [0, 0, 0, 1]))
