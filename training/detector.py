"""A trained detector as a finder of points, for labelling photographs with the previous round's own network."""

from __future__ import annotations

import torch
from torch import Tensor

from samfeat_hloc.errors import InputError
from samfeat_hloc.keypoints import detect, refine
from samfeat_hloc.looks import LOOKS, as_given, show
from samfeat_hloc.model import Maps
from samfeat_hloc.precision import Runtime
from training.adaptation import MARGIN
from training.corners import DENSITY, Corners, pixel_map

NMS_RADIUS = 2
"""Non-maximum suppression radius in pixels; the extractor's default."""
THRESHOLD = 0.5
"""Least keypoint probability."""


class Detector:
    """A trained detector as a finder of points.

    Args:
        weights: name of shipped weights, or a checkpoint's path; None: the shipped default.
        runtime: where it runs.
        threshold: least keypoint probability in a view; lower than at inference, for agreement decides.
        density: at most this many points per pixel, the best.
        radius: of the non-maximum suppression, pixels.
        looks: what draws how each batch is shown to the network, one of `samfeat_hloc.looks.LOOKS`; on the CPU. None:
            as it is.
    """

    def __init__(
        self,
        weights: str | None,
        runtime: Runtime,
        threshold: float = THRESHOLD,
        density: float = DENSITY,
        radius: int = NMS_RADIUS,
        looks: torch.Generator | None = None,
    ) -> None:
        from samfeat_hloc.checkpoints import load_weights

        loaded = load_weights(weights)
        self.sha256 = loaded.sha256
        self.runtime, self.threshold, self.density, self.radius = runtime, threshold, density, radius
        self.looks = looks
        self.refinement, self.descriptor_dim = loaded.architecture.refinement, loaded.architecture.descriptor_dim
        self.network = runtime.prepare(loaded.build())

    def __call__(self, images: Tensor, valid: Tensor) -> Corners:
        """Its keypoints; see `training.adaptation.Finder`.

        Raises:
            InputError: the network's output is not finite.
        """
        which = 0 if self.looks is None else int(torch.randint(len(LOOKS), (), generator=self.looks))
        look = LOOKS[which]
        with torch.inference_mode(), self.runtime.autocast():
            maps = self._maps(show(images, look))
        logits = as_given(maps.logits.float(), look, images.shape[2:])
        if not torch.isfinite(logits).all():
            raise InputError("the weights give keypoint scores that are not finite; check them, or try float32")
        found = detect(
            torch.sigmoid(logits) * valid,
            radius=self.radius,
            threshold=self.threshold,
            border=MARGIN,
            max_keypoints=max(1, int(logits[0].numel() * self.density)),
        )
        mask, positions = torch.zeros_like(valid), pixel_map(logits)
        for index, points in enumerate(keypoints.points for keypoints in found):
            columns, rows = points.long().unbind(dim=1)
            mask[index, 0, rows, columns] = True
            positions[index, :, rows, columns] = refine(logits[index, 0], points, self.refinement).T
        descriptors = maps.descriptors.float()
        if look.mirrored:  # another place's, for a descriptor knows left from right
            descriptors = torch.zeros_like(descriptors[:, :, :1, :1])
        return Corners(mask, positions, torch.sigmoid(logits), descriptors)

    def _maps(self, images: Tensor) -> Maps:
        maps: Maps = self.network(self.runtime.images(images) * 2 - 1)
        return maps
