"""SAM as a teacher, and the command that writes what a teacher says about a folder of photographs.

    python -m training.teacher --images PHOTOS --output STORE --checkpoint sam_vit_h_4b8939.pth
    python -m training.teacher --images BSDS --output STORE --kind segmentation

Resumable: every finished image is safe at once, whatever happens to the process; the same command goes on from there
and computes no image twice. The only module that imports `segment_anything`.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from samfeat_hloc.config import to_dict
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError, run_cli
from samfeat_hloc.precision import choose_runtime
from training.records import Image, Teacher, TeacherRow
from training.teachers.masks import Mask, paint_masks
from training.teachers.store import MAP_TEACHERS, write_store

RULE = 1
"""Goes up when the same weights and settings give other rows."""
WIDTHS = {1280: "vit_h", 1024: "vit_l", 768: "vit_b"}
"""Channels of the encoder's tokens of each official model."""


@dataclass(frozen=True)
class MaskSettings:
    """Settings of SAM's automatic mask generator, with its own defaults (Kirillov et al. 2023, appendix B).

    Attributes:
        points_per_side: prompts along each side of the image: the density of the grid.
        points_per_batch: prompts decoded at once; changes memory and time, no result.
        pred_iou_thresh: least quality of a mask by SAM's own estimate.
        stability_score_thresh: least overlap of a mask with itself under another threshold.
        box_nms_thresh: overlap of boxes above which the worse of two masks is dropped.
        min_mask_region_area: smaller holes and islands of a mask are removed, in pixels.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    box_nms_thresh: float = 0.7
    min_mask_region_area: int = 0

    def __post_init__(self) -> None:
        for name in ("points_per_side", "points_per_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")


class SamTeacher:
    """The Segment Anything Model's embedding, semantic groupings and edges of an image.

    embedding: the image encoder's output without the cells that see only SAM's padding, (256, 64, 64) less those; where
        the image ends inside a cell, that cell is kept and `extent` is fractional.
    groups, edges: the masks of the automatic mask generator, painted as `training.teachers.masks` says. An image whose
        long side exceeds SAM's (1024) is reduced to that first, as SAM does itself: its masks have no more detail, and
        its groups and edges have that size.

    The encoder runs once per image; the mask generator's own run gives the embedding.

    Args:
        checkpoint: an official SAM checkpoint, or a `segment_anything.modeling.Sam` that was built already.
        model_type: vit_h, vit_l or vit_b; not used for a Sam that was built already.
        masks: settings of the mask generator.
        device: cpu, cuda, cuda:N; default: CUDA where there is one.

    Raises:
        MissingDependencyError: segment_anything or torchvision is not installed.
        InputError: no such checkpoint, no SAM checkpoint, or one of another model type.
        ConfigError: an unknown model type or device.
    """

    def __init__(
        self,
        checkpoint: Path | str | nn.Module,
        model_type: str = "vit_h",
        masks: MaskSettings | None = None,
        device: str | None = None,
    ) -> None:
        self._masks = masks or MaskSettings()
        sam_device = choose_runtime(device, "float32").device
        package = _segment_anything()
        if isinstance(checkpoint, nn.Module):
            self._sam: Any = checkpoint
            self._model_type, self._weights = "built", _weights_sha256(checkpoint)
        else:
            self._sam = _load(Path(checkpoint), model_type)
            self._model_type, self._weights = model_type, file_sha256(Path(checkpoint))
        self._sam.eval().to(sam_device)
        self._long_side = int(self._sam.image_encoder.img_size)
        self._resize = package.utils.transforms.ResizeLongestSide(self._long_side).apply_image
        self._from_rle = package.utils.amg.rle_to_mask
        self._generator = package.SamAutomaticMaskGenerator(
            self._sam, output_mode="uncompressed_rle", crop_n_layers=0, **to_dict(self._masks)
        )

    @property
    def signature(self) -> dict[str, Any]:
        """Plain JSON."""
        settings = to_dict(self._masks)
        del settings["points_per_batch"]
        model = {"model": self._model_type, "weights_sha256": self._weights, "image_size": self._long_side}
        return {"kind": "sam", "rule": RULE, **model, **settings}

    def row(self, path: Path, image: Image) -> TeacherRow:
        """The row of an image (H, W, 3) uint8 RGB; `path` is not read."""
        if max(image.shape[:2]) > self._long_side:
            image = self._resize(image)
        height, width = image.shape[:2]
        features, masks = self._encode_once(image)
        rows, columns = (self._cells(side, features.shape[-1]) for side in self._generator_input(height, width))
        embedding = features[0, :, : math.ceil(rows), : math.ceil(columns)].to(torch.float16).cpu().numpy()
        groups, edges = paint_masks(
            len(masks), [mask["area"] for mask in masks], lambda index: self._mask(masks[index]), height, width
        )
        return TeacherRow(np.ascontiguousarray(embedding), (columns, rows), groups, edges)

    def _encode_once(self, image: Image) -> tuple[Tensor, list[dict[str, Any]]]:
        """The encoder's output and the generator's masks, of one run of the generator."""
        outputs: list[Tensor] = []
        hook = self._sam.image_encoder.register_forward_hook(lambda *call: outputs.append(call[2]))
        try:
            masks = self._generator.generate(image)
        finally:
            hook.remove()
        return outputs[0], masks

    def _generator_input(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which the encoder sees the image, before the padding."""
        size: tuple[int, int] = self._generator.predictor.transform.get_preprocess_shape(height, width, self._long_side)
        return size

    def _cells(self, side: int, grid: int) -> float:
        """Cells of the embedding along a side of so many pixels of the encoder's input."""
        return side * grid / self._long_side

    def _mask(self, mask: dict[str, Any]) -> Mask:
        covered: npt.NDArray[np.bool_] = self._from_rle(mask["segmentation"])
        return covered


def _segment_anything() -> Any:
    try:
        import segment_anything
        import segment_anything.utils.amg
        import segment_anything.utils.transforms
    except ImportError as error:
        raise MissingDependencyError(
            f"the SAM teacher needs segment_anything and torchvision ({error}); pip install 'samfeat-hloc[sam]'"
        ) from None
    return segment_anything


def _load(checkpoint: Path, model_type: str) -> nn.Module:
    """Build the model of a checkpoint file, after it is known to fit."""
    if model_type not in WIDTHS.values():
        raise ConfigError(f"model is {model_type!r}; expected one of {', '.join(WIDTHS.values())}")
    if not checkpoint.is_file():
        raise InputError(f"the SAM checkpoint {checkpoint} does not exist; give the path of an official .pth file")
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
        channels = weights["image_encoder.pos_embed"].shape[-1]
    except Exception as error:  # torch.load raises half a dozen types on other files
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{checkpoint} is no SAM checkpoint ({reason}); expected an official .pth file") from None
    found = WIDTHS.get(channels, f"a model of {channels} channels")
    if found != model_type:
        raise InputError(f"{checkpoint} holds {found} and not {model_type}; give its own type with --model")
    sam: nn.Module = _segment_anything().sam_model_registry[model_type]()
    try:
        sam.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{checkpoint} is no official {model_type} checkpoint: {reason}; download it again") from None
    return sam


def _weights_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write the store."""
    parser = argparse.ArgumentParser(
        prog="python -m training.teacher", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs, searched recursively")
    parser.add_argument("--output", type=Path, required=True, help="the store: a folder, made or gone on with")
    parser.add_argument("--kind", choices=("sam", *MAP_TEACHERS), default="sam", help="which teacher")
    parser.add_argument("--checkpoint", type=Path, help="SAM's .pth file")
    parser.add_argument("--model", default="vit_h", help="vit_h, vit_l or vit_b")
    parser.add_argument("--points-per-side", type=int, default=32, help="density of SAM's grid of prompts")
    parser.add_argument("--points-per-batch", type=int, default=64, help="prompts decoded at once, for memory")
    parser.add_argument("--device", help="cpu, cuda, cuda:N; default: CUDA where there is one")
    options = parser.parse_args(arguments)
    write_store(_teacher(options), options.images, options.output)


def _teacher(options: argparse.Namespace) -> Teacher:
    if options.kind == "sam":
        if options.checkpoint is None:
            raise ConfigError("--kind sam needs --checkpoint; give the path of an official SAM .pth file")
        masks = MaskSettings(options.points_per_side, options.points_per_batch)
        return SamTeacher(options.checkpoint, options.model, masks, options.device)
    if options.checkpoint is not None:
        raise ConfigError(f"--kind {options.kind} reads maps beside the photographs; leave --checkpoint away")
    return MAP_TEACHERS[options.kind]()


if __name__ == "__main__":
    run_cli(main)
