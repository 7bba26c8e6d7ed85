"""``python -m samfeat_hloc.export MODEL --to FORMAT --images DIR --output OUT``: a model for other programs.

ply         points.ply and cameras.ply, for MeshLab, CloudCompare, Blender
nerfstudio  transforms.json, photographs and points.ply
gsplat      undistorted photographs and sparse/0, as 3D Gaussian splatting reads them
openmvs     undistorted photographs and sparse, as OpenMVS's InterfaceCOLMAP reads them
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from samfeat_hloc.errors import ConfigError, InputError, run_cli

logger = logging.getLogger(__name__)

FORMATS = ("ply", "nerfstudio", "gsplat", "openmvs")
SMALLEST_IMAGE = 32


def main(
    model: Path | str,
    to: str,
    output: Path | str,
    images: Path | str | None = None,
    max_image_size: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Export a model. What a run that was killed has written is not written again.

    Args:
        model: folder of a COLMAP model or of a map.
        to: ``ply``, ``nerfstudio``, ``gsplat`` or ``openmvs``.
        output: folder to write to; for ``ply`` also a .ply file.
        images: folder of the photographs; needed for all but ``ply``.
        max_image_size: make photographs smaller: largest width and height in pixels.
        overwrite: replace the export of something else.

    Returns:
        `output`.

    Raises:
        InputError: a bad file.
        ConfigError: an unknown format or a bad option.
    """
    from samfeat_hloc._pycolmap import read_model
    from samfeat_hloc.exporting import gsplat, nerfstudio, openmvs, points
    from samfeat_hloc.exporting.folder import ExportFolder
    from samfeat_hloc.stage_folder import model_digest
    from samfeat_hloc.viewing.model_scene import model_folder

    if to not in FORMATS:
        raise ConfigError(f"the format '{to}' is unknown; expected one of {', '.join(FORMATS)}")
    if max_image_size is not None and max_image_size < SMALLEST_IMAGE:
        raise ConfigError(f"max_image_size is {max_image_size}; expected at least {SMALLEST_IMAGE} pixels")
    source, output = model_folder(model), Path(output)
    reconstruction = read_model(source)
    if to == "ply":
        files = points.export(reconstruction, output, Path(images) if images is not None else None)
        logger.info(
            "%s: %d points, %d cameras", files[0], len(reconstruction.points3D), reconstruction.num_reg_images()
        )
        return output
    if images is None:
        raise InputError(f"{to} needs the photographs; give their folder (--images)")
    writers = {"nerfstudio": nerfstudio.export, "gsplat": gsplat.export, "openmvs": openmvs.export}
    signature = {
        "format": to,
        "model": model_digest(source, with_points=True),
        "images": str(Path(images).resolve()),
        "max_image_size": max_image_size,
    }
    folder = ExportFolder(output, signature, overwrite=overwrite)
    if folder.finished:
        logger.info("%s is complete already", output)
        return output
    hints = writers[to](reconstruction, Path(images), folder, max_image_size)
    folder.finish()
    logger.info("%s: %d photographs, %d points", output, reconstruction.num_reg_images(), len(reconstruction.points3D))
    for hint in hints:
        logger.info("%s", hint)
    return output


def _cli() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m samfeat_hloc.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a COLMAP model or of a map")
    parser.add_argument("--to", choices=FORMATS, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--images", type=Path, help="folder of the photographs")
    parser.add_argument("--max_image_size", type=int, metavar="PX", help="make photographs no larger than this")
    parser.add_argument("--overwrite", action="store_true", help="replace the export of something else")
    main(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_cli(_cli)
