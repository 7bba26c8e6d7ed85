"""What a phone's lens and sensor make of the light: bloom, blur, exposure, noise."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .raster import Field
from .shade import to_srgb

NIGHT_NOISE = (4.0, 14.0)  # times the sensor's base noise variance
NIGHT_BLUR_PX = (0.6, 1.2)  # what the phone's noise reduction leaves of detail
NIGHT_SHAKE_PX = 4.0


def develop_day(light: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Linear light (H, W, 3) -> photograph, with small differences in exposure, white balance and noise."""
    gain = np.exp(rng.normal(0, 0.1)) * np.array([1 + rng.normal(0, 0.02), 1.0, 1 + rng.normal(0, 0.02)])
    light = light * (gain * _vignette(light.shape, 0.16)).astype(np.float32)
    light = light * (1 + light / 5.0) / (1 + light)
    light = cv2.GaussianBlur(light, (0, 0), 0.38)
    shot = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(light * 6e-5 + 2e-6)
    return _to_bytes(to_srgb(light + shot))


def develop_night(light: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The same by hand at night: glow around lamps, a little shake, strong noise that the phone has partly smoothed."""
    peak = np.minimum(light, 6.0)
    glow = np.zeros_like(light)
    small = cv2.resize(np.maximum(peak - 0.7, 0), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    for sigma, weight in ((1.2, 0.22), (4.0, 0.1), (14.0, 0.035)):
        blurred = cv2.GaussianBlur(small, (0, 0), sigma)
        glow += weight * cv2.resize(blurred, (light.shape[1], light.shape[0]), interpolation=cv2.INTER_LINEAR)
    light = peak + glow
    light = _shake(light, rng)
    gain = np.exp(rng.normal(0, 0.12)) * np.array([1.0, 0.96 + rng.normal(0, 0.02), 1.0 + rng.normal(0, 0.06)])
    light = light * (gain * _vignette(light.shape, 0.3)).astype(np.float32)
    light = light * (1 + light / 3.0) / (1 + light)
    iso = rng.uniform(*NIGHT_NOISE)
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    light = light + noise * np.sqrt(light * np.float32(9e-4 * iso) + np.float32(1.6e-5 * iso))
    smoothed = cv2.GaussianBlur(np.maximum(light, 0), (0, 0), float(rng.uniform(*NIGHT_BLUR_PX)))
    return _to_bytes(to_srgb(smoothed))


def _vignette(shape: tuple[int, ...], strength: float) -> Field:
    y = (np.arange(shape[0], dtype=np.float32) + 0.5) / shape[0] * 2 - 1
    x = (np.arange(shape[1], dtype=np.float32) + 0.5) / shape[1] * 2 - 1
    return (1 - strength * (0.5 * (x[None, :] ** 2 + y[:, None] ** 2)) ** 1.2)[..., None].astype(np.float32)


def _shake(light: Field, rng: np.random.Generator) -> Field:
    """Blur along a short line whose mean stays in place."""
    length, angle = rng.uniform(0.3, NIGHT_SHAKE_PX), rng.uniform(0, np.pi)
    kernel = np.zeros((9, 9), np.float32)
    for step in np.linspace(-0.5, 0.5, 21):
        x, y = 4 + step * length * np.cos(angle), 4 + step * length * np.sin(angle)
        i, j = int(y), int(x)
        for di in (0, 1):
            for dj in (0, 1):
                kernel[i + di, j + dj] += abs(1 - di - (y - i)) * abs(1 - dj - (x - j))
    return cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def _to_bytes(display: Field) -> NDArray[np.uint8]:
    return np.clip(display * 255 + 0.5, 0, 255).astype(np.uint8)
