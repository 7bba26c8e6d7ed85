"""The SAMFeat network.

Arithmetic and state-dict keys are those of the released implementation (``nets/network.py``), so that the authors'
checkpoint loads with no conversion. What differs from the release are switches of `Architecture`, which travels in the
checkpoint's metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.phases import CHOICES, PHASES, enlarge, halve, moved

MIN_SIDE = 32
MAX_ATTENTION_PIXELS = 512 * 512
"""Largest image area (in pixels) that pixel attention accepts: its cost grows with the square of the area."""

ATTENTIONS = ("released", "rows", "pixels", "off")


@dataclass(frozen=True)
class Architecture:
    """Switches of the network; stored in the checkpoint's metadata.

    Attributes:
        attention: what edge attention guidance attends over.
            ``released``: rows, with the released code's fixed scale 1/sqrt(10000);
            ``rows``: rows, with the scale 1/width of the map, equal to ``released`` at the 400 px the release was
            trained at and independent of the image's width;
            ``pixels``: every pixel to every pixel, as the paper's Fig. 6 and text describe;
            ``off``: no edge guidance, neither of the descriptor nor of the detector (the ablation's baseline).
        descriptor_dim: channels of the descriptor.
        sampling: how a pixel addresses the descriptor map. ``released``: x * 2 / (W - 1) - 1 with half-pixel corners,
            a stretch of up to 1/8 cell towards the sides that the released weights were trained with;
            ``exact``: the pixel's centre.
        refinement: how keypoints get positions finer than a pixel, see `samfeat_hloc.keypoints.refine`. ``soft`` is
            for weights that were trained with the position loss.
        phases: grids of halves and quarters that keypoint logits are averaged over, 1 (as released), 2 or 4, see
            `samfeat_hloc.phases`. No weight depends on it.
    """

    attention: Literal["released", "rows", "pixels", "off"] = "released"
    descriptor_dim: int = 128
    sampling: Literal["released", "exact"] = "released"
    refinement: Literal["quadratic", "soft"] = "quadratic"
    phases: int = 1

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise ConfigError(f"attention is {self.attention!r}; expected one of {', '.join(ATTENTIONS)}")
        if self.sampling not in ("released", "exact"):
            raise ConfigError(f"sampling is {self.sampling!r}; expected 'released' or 'exact'")
        if self.refinement not in ("quadratic", "soft"):
            raise ConfigError(f"refinement is {self.refinement!r}; expected 'quadratic' or 'soft'")
        if self.phases not in CHOICES:
            raise ConfigError(f"phases is {self.phases}; expected one of {', '.join(map(str, CHOICES))}")


class Maps(NamedTuple):
    """What the network makes of (B, 3, H, W) images."""

    logits: Tensor  # (B, 1, H, W) keypoint logits
    descriptors: Tensor  # (B, D, H/4, W/4) not normalised
    attention: Tensor  # (B, 1, H/4, W/4) >= 0, the weight of a descriptor
    student: Tensor  # (B, 256, H/8, W/8) the features that learn SAM's encoder relations
    edges: Tensor  # (B, 1, H/4, W/4) in [0, 1]
    scales: Tensor | None = None  # (B, 4, H, W) keypoint logits of each scale, for training


class EdgeAttention(nn.Module):
    """Edge attention guidance: attention computed on edge-weighted features, added to the features.

    Keys of the state dict as released: ``query_conv``, ``key_conv``, ``value_conv``.
    """

    RELEASED_SCALE = 0.01

    def __init__(self, channels: int, attention: str) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels, kernel_size=1)
        self.key_conv = nn.Conv2d(channels, channels, kernel_size=1)
        self.value_conv = nn.Conv2d(channels, channels, kernel_size=1)
        self.attention = attention

    def forward(self, edge_features: Tensor, features: Tensor) -> Tensor:
        """(B, C, h, w), (B, C, h, w) -> (B, C, h, w)."""
        query = self.query_conv(edge_features)
        key = self.key_conv(edge_features)
        value = self.value_conv(edge_features)
        if self.attention == "pixels":
            return features + self._over_pixels(query, key, value)
        scale = self.RELEASED_SCALE if self.attention == "released" else 1.0 / query.shape[-1]
        weights = torch.softmax(torch.matmul(query, key.transpose(-2, -1)) * scale, dim=-1)
        return features + torch.matmul(weights, value)

    @staticmethod
    def _over_pixels(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        height, width = query.shape[-2:]
        if height * width * 16 > MAX_ATTENTION_PIXELS:
            raise InputError(
                f"pixel attention got an image of {width * 4}x{height * 4}; it accepts at most "
                f"{MAX_ATTENTION_PIXELS} pixels (512x512); resize the image or use row attention"
            )
        query, key, value = (x.flatten(2).transpose(1, 2).unsqueeze(1) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(query, key, value)
        return attended.squeeze(1).transpose(1, 2).unflatten(2, (height, width))


def _conv(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=size, padding=size // 2)


class SAMFeat(nn.Module):
    """Keypoint logits, descriptors, attention and edges of an image, as the released network computes them."""

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or Architecture()
        self.conv1a, self.conv1b = _conv(3, 64), _conv(64, 64)
        self.conv2a, self.conv2b = _conv(64, 64), _conv(64, 64)
        self.conv3a, self.conv3b = _conv(64, 128), _conv(128, 128)
        self.conv4a, self.conv4b = _conv(128, 128), _conv(128, 128)
        self.dist_conv_feat, self.dist_conv_fushion = _conv(128, 256), _conv(256, 128)  # spelling as released
        self.heatmap1, self.heatmap2 = _conv(64, 1), _conv(64, 1)
        self.heatmap3, self.heatmap4 = _conv(128, 1), _conv(128, 1)
        self.fuse_weight_1 = nn.Parameter(torch.tensor([0.1]))
        self.fuse_weight_2 = nn.Parameter(torch.tensor([0.2]))
        self.fuse_weight_3 = nn.Parameter(torch.tensor([0.3]))
        self.fuse_weight_4 = nn.Parameter(torch.tensor([0.4]))
        self.scalemap = _conv(1, 1)
        self.conv_des = _conv(384, self.architecture.descriptor_dim)
        self.conv_det = _conv(384, 1, size=1)  # in the released checkpoint, used by nothing
        self.conv_edg = _conv(384, 1, size=1)
        self.egde_module = EdgeAttention(384, self.architecture.attention)  # spelling as released
        for module in self.modules():
            if (
                isinstance(module, nn.Conv2d) and not module.weight.is_meta
            ):  # drawing nothing there imports the compiler
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor, every_scale: bool = False) -> Maps:
        """Run the network.

        Args:
            images: (B, 3, H, W) RGB in [-1, 1]; H, W >= 32. Sizes that are no multiple of 8 are accepted; the pooled
                maps are then rounded down, as in the released network.
            every_scale: also give each scale's keypoint logits, which the paper supervises.

        Raises:
            InputError: the tensor has another shape, or pixel attention meets too large an image.
        """
        check_images(images)
        c1, c2, c3, c4, student = self._backbone(images)
        features = torch.cat([_resize(c1, c3), _resize(c2, c3), c3, _resize(c4, c3)], dim=1)
        edges = torch.sigmoid(self.conv_edg(features))
        guided = self.architecture.attention != "off"
        scales = self._detect(c1, c2, c3, c4, edges if guided else None)
        weights = (self.fuse_weight_1, self.fuse_weight_2, self.fuse_weight_3, self.fuse_weight_4)
        logits = scales[0] * weights[0] + scales[1] * weights[1] + scales[2] * weights[2] + scales[3] * weights[3]
        if guided:
            features = self.egde_module(features * edges, features)
        attention = F.softplus(self.scalemap(features.mean(dim=1, keepdim=True)))
        every = torch.cat(scales, dim=1) if every_scale else None
        return Maps(logits, self.conv_des(features), attention, student, edges, every)

    def _backbone(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        c1 = F.relu(self.conv1b(F.relu(self.conv1a(images))))
        c2 = self._second(F.max_pool2d(c1, 2))
        c3 = self._third(F.max_pool2d(c2, 2))
        c4 = F.relu(self.conv4b(F.relu(self.conv4a(F.max_pool2d(c3, 2)))))
        student = self.dist_conv_feat(c4)
        return c1, c2, c3, c4 + self.dist_conv_fushion(student), student

    def _second(self, halved: Tensor) -> Tensor:
        return F.relu(self.conv2b(F.relu(self.conv2a(halved))))

    def _third(self, halved: Tensor) -> Tensor:
        return F.relu(self.conv3b(F.relu(self.conv3a(halved))))

    def _detect(self, c1: Tensor, c2: Tensor, c3: Tensor, c4: Tensor, edges: Tensor | None) -> list[Tensor]:
        """The heat maps of the four scales at full size; where edges guide, they weigh the third's cells."""
        first = self.heatmap1(c1)
        half = _resize(self.heatmap2(c2), first)
        quarter = _resize(self.heatmap3(c3 if edges is None else c3 * edges + c3), first)
        if self.architecture.phases > 1:
            half, quarter = self.average_phases(c1, c2, edges, half, quarter)
        return [first, half, quarter, _resize(self.heatmap4(c4), first)]

    def average_phases(
        self, c1: Tensor, c2: Tensor, edges: Tensor | None, half: Tensor, quarter: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The second and the third heat map (B, 1, H, W) in the mean over the phases, those given being the first's.

        Args:
            c1, c2: (B, 64, H, W) and (B, 64, H/2, W/2), the first two scales.
            edges: (B, 1, H/4, W/4) that weigh the third scale; None: nothing does.
            half, quarter: (B, 1, H, W), the heat maps of the first phase.
        """
        size = (c1.shape[2], c1.shape[3])
        halved, halves, quarters = [c2], [half], [quarter]
        for phase in PHASES[1 : self.architecture.phases]:
            if phase.first == len(halved):
                halved.append(self._second(halve(c1, phase.first)))
                halves.append(enlarge(self.heatmap2(halved[-1]), 2, phase.first, size))
            c3 = self._third(halve(halved[phase.first], phase.second))
            if edges is not None:
                c3 = c3 * moved(edges, phase, (c3.shape[2], c3.shape[3])) + c3
            quarters.append(enlarge(self.heatmap3(c3), 4, phase.pixels, size))
        return torch.stack(halves).mean(dim=0), torch.stack(quarters).mean(dim=0)


def check_images(images: Tensor) -> None:
    """Refuse what the network cannot take.

    Raises:
        InputError: another shape than (B, 3, H, W) with H, W >= 32.
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < MIN_SIDE:
        raise InputError(f"the network got shape {tuple(images.shape)}; expected (B, 3, H, W) with H, W >= {MIN_SIDE}")


def _resize(maps: Tensor, like: Tensor) -> Tensor:
    return resize(maps, (like.shape[2], like.shape[3]))


def resize(maps: Tensor, target: tuple[int, int]) -> Tensor:
    """Bilinear resize to (height, width) with half-pixel centres.

    Shrinking by exactly 2 or 4 is a mean of 2x2 pixels, which is faster.
    """
    height, width = maps.shape[2:]
    if (height, width) == target:
        return maps
    if (height, width) == (2 * target[0], 2 * target[1]):
        return F.avg_pool2d(maps, 2)
    if (height, width) == (4 * target[0], 4 * target[1]):
        return F.avg_pool2d(maps[:, :, 1:, 1:], 2, stride=4)
    return F.interpolate(maps, target, mode="bilinear", align_corners=False)
