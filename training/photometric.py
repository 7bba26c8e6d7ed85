"""Photometric change of crops (B, 3, H, W) in [0, 1], each image with its own draw: exposure, colour, light on each
surface, shade, blur, noise, and night.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.filters import filter2d, gaussian_blur2d
from torch import Tensor

from training.config import PhotometricConfig

SURFACES = 12
DEFOCUS = 1.5, 6.0
"""Standard deviation in pixels of the strong blur, from and to, log-uniform."""


class Photometric:
    """Draws from a generator, so that a run can be resumed to the same stream."""

    def __init__(self, config: PhotometricConfig, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the same shape and range."""
        if self.config.strength == 0:
            return images
        images = self._colour(images)
        if self.config.relight:
            images = torch.where(self._chance(images, self.config.relight), self._relight(images), images)
        images = self._shade(images)
        images = torch.where(self._chance(images, self.config.night), self._night(images), images)
        images = self._blur(images)
        if self.config.defocus:
            images = torch.where(self._chance(images, self.config.defocus), self._defocus(images), images)
        return self._quantise(self._noise(images))

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def _chance(self, images: Tensor, probability: float) -> Tensor:
        return self._rand(len(images), 1, 1, 1) < probability

    def _spread(self, images: Tensor, width: float, channels: int = 1) -> Tensor:
        """(B, channels, 1, 1) uniform in [-width, width] times the strength."""
        return (self._rand(len(images), channels, 1, 1) * 2 - 1) * width * self.config.strength

    def _colour(self, images: Tensor) -> Tensor:
        grey = rgb_to_grayscale(images)
        saturation = (1 + self._spread(images, 0.5)).clamp(min=0)
        saturation = torch.where(self._chance(images, 0.1), torch.zeros_like(saturation), saturation)
        images = grey + (images - grey) * saturation
        images = images * torch.exp(self._spread(images, 0.18, channels=3))
        images = images.clamp(1e-4, 1) ** torch.exp(self._spread(images, 0.55))
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        contrast = torch.exp(self._spread(images, 0.5))
        return ((images - mean) * contrast + mean + self._spread(images, 0.15)).clamp(0, 1)

    def _relight(self, images: Tensor) -> Tensor:
        """Light, colour and tone of each surface change by themselves, as with the sun, the season or the weather.

        Surfaces are the pixels nearest to one of ``SURFACES`` random pixels, in place and colour: edges between
        them follow those of the photograph, and some turn from dark-to-light into light-to-dark.
        """
        batch, _, height, width = images.shape
        y = torch.linspace(0, 1, height, device=images.device)
        x = torch.linspace(0, 1, width, device=images.device)
        place = torch.stack(torch.meshgrid(y, x, indexing="ij"))
        features = torch.cat([images.mean(1, keepdim=True) * 3, images, place.expand(batch, -1, -1, -1) * 0.8], dim=1)
        flat = features.flatten(2)
        chosen = (self._rand(batch, SURFACES) * height * width).long()
        seeds = torch.gather(flat, 2, chosen[:, None].expand(-1, flat.shape[1], -1))
        distance2 = torch.cdist(flat.transpose(1, 2), seeds.transpose(1, 2)) ** 2
        member = torch.softmax(distance2 * -60, dim=2)
        spread = 0.35 * self.config.strength
        light = self._randn(batch, SURFACES, 1) * spread + self._randn(batch, SURFACES, 3) * spread * 0.2
        tone = self._randn(batch, SURFACES, 1) * spread * 0.5
        per_pixel = (member @ torch.cat([light, tone], dim=2)).transpose(1, 2).reshape(batch, 4, height, width)
        toned = images.clamp(1e-4, 1) ** torch.exp(per_pixel[:, 3:])
        return (toned * torch.exp(per_pixel[:, :3])).clamp(0, 1)

    def _shade(self, images: Tensor) -> Tensor:
        """A smooth field of light and shadow, and one shadow with a hard edge."""
        coarse = self._randn(len(images), 1, 4, 4) * 0.35 * self.config.strength
        field = F.interpolate(coarse, images.shape[2:], mode="bicubic", align_corners=False)
        axis = torch.linspace(-1, 1, images.shape[-1], device=images.device)
        angle = self._rand(len(images), 1, 1, 1) * 2 * torch.pi
        side = torch.cos(angle) * axis + torch.sin(angle) * axis[:, None] + self._spread(images, 0.7)
        shadow = torch.sigmoid(side * 60) * -0.8 * self._rand(len(images), 1, 1, 1)
        field = field + torch.where(self._chance(images, 0.25), shadow, torch.zeros_like(shadow))
        return torch.where(self._chance(images, 0.6), (images * torch.exp(field)).clamp(0, 1), images)

    def _night(self, images: Tensor) -> Tensor:
        """Low exposure, pools of warm light, glare, and the noise of a sensor with few photons."""
        batch, _, height, width = images.shape
        y = torch.linspace(0, 1, height, device=images.device)[:, None]
        x = torch.linspace(0, 1, width, device=images.device)
        light = torch.zeros(batch, 1, height, width, device=images.device)
        glare = torch.zeros_like(light)
        for _ in range(3):
            centre = self._rand(batch, 2, 1, 1, 1)
            distance2 = (x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2
            reach = 0.02 + 0.15 * self._rand(batch, 1, 1, 1)
            light = light + self._rand(batch, 1, 1, 1) * torch.exp(-distance2 / reach)
            lit = self._rand(batch, 1, 1, 1) < 0.3
            glare = glare + lit * torch.exp(-distance2 / 0.0015)
        exposure = 0.06 + 0.25 * self._rand(batch, 1, 1, 1)
        tint = torch.tensor([1.0, 0.82, 0.6], device=images.device).reshape(1, 3, 1, 1)
        tint = 1 - (1 - tint) * self._rand(batch, 1, 1, 1) * 1.2
        linear = images.clamp(1e-4, 1) ** 1.8 * exposure * (0.35 + 1.8 * light) * tint + glare * 0.8
        noise = self._randn(*images.shape) * torch.sqrt(linear.clamp(min=0) * 0.004 + 0.00002)
        noise = noise * (0.3 + self._rand(batch, 1, 1, 1))
        gain = 1 + 2.5 * self._rand(batch, 1, 1, 1)
        return ((linear + noise) * gain).clamp(1e-4, 1) ** (1 / 1.9)

    def _blur(self, images: Tensor) -> Tensor:
        batch = len(images)
        sigma = (0.3 + 1.0 * self._rand(batch, 1)) * self.config.strength
        soft = gaussian_blur2d(images, (7, 7), sigma.expand(batch, 2))
        images = torch.where(self._chance(images, 0.3), soft, images)
        angle = self._rand(batch, 1, 1) * torch.pi
        reach = torch.arange(-3.0, 4.0, device=images.device)
        offset = torch.cos(angle) * reach[:, None] - torch.sin(angle) * reach  # distance to a line through the centre
        kernel = torch.exp(-(offset**2) * 2)
        kernel = kernel / kernel.sum(dim=(1, 2), keepdim=True)
        return torch.where(self._chance(images, 0.12), filter2d(images, kernel), images)

    def _defocus(self, images: Tensor) -> Tensor:
        """What lies out of focus, or in haze: details are gone, and only what is coarse is found again."""
        low, high = DEFOCUS
        sigma = low * (high / low) ** self._rand(len(images), 1)
        size = 2 * math.ceil(2.5 * high) + 1
        return gaussian_blur2d(images, (size, size), sigma.expand(-1, 2))

    def _noise(self, images: Tensor) -> Tensor:
        level = self._rand(len(images), 1, 1, 1) ** 2 * 0.06 * self.config.strength
        return images + self._randn(*images.shape) * level

    @staticmethod
    def _quantise(images: Tensor) -> Tensor:
        return (images.clamp(0, 1) * 255).round() / 255
