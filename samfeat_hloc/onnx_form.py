"""The network and its keypoints as one graph with no branch on data or size, for `samfeat_hloc.export_onnx`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samfeat_hloc.errors import ConfigError
from samfeat_hloc.keypoints import SOFT_RADIUS, cut_windows, soft_offset, vertex_offset
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.sampling import normalised


class MapsForm(nn.Module):
    """(B, 3, H, W) RGB in [0, 1] -> logits (B, 1, H, W), descriptors, attention and edges on a quarter of the pixels.

    H and W may be anything from 32 up; the image is padded to multiples of 8 by repeating its border, as the extractor
    does, and the quarter maps are of the padded image.
    """

    names = ("logits", "descriptors", "attention", "edges")

    def __init__(self, model: SAMFeat) -> None:
        super().__init__()
        if model.architecture.attention == "pixels":
            raise ConfigError(
                "weights with pixel attention cannot be exported; it limits the image's size, rows do not"
            )
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""
        logits, *maps = self.padded_maps(image)
        return logits[:, :, : image.shape[2], : image.shape[3]], maps[0], maps[1], maps[2]

    def padded_maps(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The maps, all of the padded image."""
        model = self.model
        padding = (0, -image.shape[3] % 8, 0, -image.shape[2] % 8)
        c1, c2, c3, c4, _ = model._backbone(F.pad(image, padding, mode="replicate") * 2 - 1)
        coarse = F.interpolate(c4, scale_factor=2.0, mode="bilinear", align_corners=False)
        features = torch.cat([F.avg_pool2d(c1[:, :, 1:, 1:], 2, stride=4), F.avg_pool2d(c2, 2), c3, coarse], dim=1)
        edges = torch.sigmoid(model.conv_edg(features))
        guided = model.architecture.attention != "off"
        half = F.interpolate(model.heatmap2(c2), scale_factor=2.0, mode="bilinear", align_corners=False)
        quarter = model.heatmap3(c3 * edges + c3 if guided else c3)
        quarter = F.interpolate(quarter, scale_factor=4.0, mode="bilinear", align_corners=False)
        if model.architecture.phases > 1:
            half, quarter = model.average_phases(c1, c2, edges if guided else None, half, quarter)
        eighth = F.interpolate(model.heatmap4(c4), scale_factor=8.0, mode="bilinear", align_corners=False)
        weights = (model.fuse_weight_1, model.fuse_weight_2, model.fuse_weight_3, model.fuse_weight_4)
        heats = (model.heatmap1(c1), half, quarter, eighth)
        logits = torch.stack([heat * weight for heat, weight in zip(heats, weights, strict=True)]).sum(dim=0)
        if guided:
            features = model.egde_module(features * edges, features)
        attention = F.softplus(model.scalemap(features.mean(dim=1, keepdim=True)))
        return logits, model.conv_des(features), attention, edges


class KeypointsForm(MapsForm):
    """(B, 3, H, W) RGB in [0, 1] -> the best keypoints of each image, best first.

    keypoints (B, N, 2) x, y in pixels, the centre of the top-left pixel is (0, 0); scores (B, N); descriptors
    (B, N, D) of unit length; attention (B, N). Rows with score 0 are no keypoints: the image had fewer than N.

    Args:
        model: the network.
        max_keypoints: N.
        threshold: least keypoint probability.
        radius: of the non-maximum suppression, pixels.
        border: keypoints nearer to the image's border are left out, pixels; at least 1.
    """

    names = ("keypoints", "scores", "descriptors", "attention")

    def __init__(
        self, model: SAMFeat, max_keypoints: int = 2048, threshold: float = 0.7, radius: int = 2, border: int = 4
    ) -> None:
        super().__init__(model)
        if max_keypoints < 1 or radius < 1 or border < 1:
            raise ConfigError(
                f"max_keypoints is {max_keypoints}, radius {radius}, border {border}; expected each at least 1"
            )
        self.max_keypoints, self.threshold, self.radius, self.border = max_keypoints, threshold, radius, border

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""
        logits, descriptors, attention, _ = self.padded_maps(image)
        padded_height, padded_width = logits.shape[2:]
        scores = torch.sigmoid(logits)
        x = torch.arange(padded_width, device=image.device)
        y = torch.arange(padded_height, device=image.device)[:, None]
        border = self.border
        inside = (x >= border) & (x < image.shape[3] - border) & (y >= border) & (y < image.shape[2] - border)
        kept = self._suppress(scores) & (scores >= self.threshold) & inside
        flat = F.pad(torch.where(kept, scores, torch.zeros_like(scores)).flatten(1), (0, self.max_keypoints))
        best, index = flat.topk(self.max_keypoints, dim=1)
        index = torch.where(best > 0, index, torch.zeros_like(index))
        columns, rows = (side.expand(padded_height, padded_width).flatten() for side in (x, y))
        pixels = torch.stack([columns[index], rows[index]], dim=-1)
        points = pixels.float() + self._offsets(logits[:, 0], pixels)
        grid = normalised(points, (padded_width, padded_height), self.model.architecture.sampling)[:, :, None]
        both = torch.cat([descriptors, attention], dim=1)
        read = F.grid_sample(both, grid, padding_mode="border", align_corners=False)[..., 0].transpose(1, 2)
        return points, best, F.normalize(read[..., :-1], dim=-1), read[..., -1]

    def _offsets(self, logits: Tensor, pixels: Tensor) -> Tensor:
        """(B, H, W), (B, N, 2) -> (B, N, 2)."""
        images = torch.arange(logits.shape[0], device=logits.device)[:, None].expand(-1, self.max_keypoints)
        soft = self.model.architecture.refinement == "soft"
        windows = cut_windows(logits, images.flatten(), pixels.flatten(0, 1), SOFT_RADIUS if soft else 1)
        return (soft_offset(windows) if soft else vertex_offset(windows)).reshape(pixels.shape)

    def _suppress(self, scores: Tensor) -> Tensor:
        """`samfeat_hloc.keypoints.suppress` with two rounds, without its tie-breaking: exact ties both stay."""
        flat = scores <= -F.max_pool2d(-scores, 3, stride=1, padding=1)
        left = torch.where(flat, torch.zeros_like(scores), scores)
        first = (left == self._window_max(left)) & (left > 0)
        left = torch.where(self._window_max(first.float()) > 0, torch.zeros_like(left), left)
        return first | ((left == self._window_max(left)) & (left > 0))

    def _window_max(self, scores: Tensor) -> Tensor:
        return F.max_pool2d(scores, 2 * self.radius + 1, stride=1, padding=self.radius)
