"""The network as inference runs it: what `samfeat_hloc.model.SAMFeat` computes, with less work.

What is left out or rearranged (`samfeat_hloc.inference_stages`), all of it exact up to rounding:

- Weights are in the images' dtype from the start, and nothing is converted between layers.
- Full resolution is passed in strips of rows, so that what a layer writes the next one still finds in the cache.
- Adding a bias to all keys does not change a softmax over keys, and a bias of the values passes through weights that
  sum to one: three 1x1 convolutions become three matrix products that give the layout which attention wants.
- Bilinear reading and a convolution commute. Descriptors are read at a few thousand points, so the last convolution
  runs on the 4x4 cells around each point instead of the whole map, where that is less.

docs/speed.md has what the whole is worth.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from samfeat_hloc.calibration import measure_ranges
from samfeat_hloc.errors import SamfeatError
from samfeat_hloc.inference_stages import InferenceMaps, Stages
from samfeat_hloc.model import SAMFeat, check_images
from samfeat_hloc.quantized_stages import QuantizedStages
from samfeat_hloc.sampling import cell_positions, sample

logger = logging.getLogger(__name__)

CHUNK = 512
"""Points that are described at a time, so that their cells stay in the cache."""

DENSE_FROM = 0.3
"""Points per cell of the descriptor map from which the whole map is computed; measured on a CPU."""

COMPILE_OPTIONS: dict[str, Any] = {"freezing": True}
"""Of inductor: weights become constants, packed for the machine."""


class InferenceNetwork(nn.Module):
    """A trained network in the form that inference runs, see this module's head.

    It computes in the dtype of the images it gets. The weights are taken over on the first call in a dtype, and again
    after the module was moved (``.to``, as hloc does).

    Args:
        model: the network.
        quantized: compute in 8 bits what `samfeat_hloc.quantized_stages` does, on a CPU.
        compiled: let ``torch.compile`` make one program of it, for each new image size anew; where that fails it is
            said once, in one line, and the network runs as without.
    """

    def __init__(self, model: SAMFeat, compiled: bool = False, quantized: bool = False) -> None:
        super().__init__()
        self.model = model
        self.compiled, self.quantized = compiled, quantized
        self._ready: dict[torch.dtype, Stages] = {}
        self._making = threading.Lock()
        self._program: Callable[[Stages, Tensor], InferenceMaps] | None = None

    @torch.inference_mode()
    def forward(self, images: Tensor) -> InferenceMaps:
        """Run the part of the network that needs no keypoints.

        Args:
            images: (B, 3, H, W) RGB in [-1, 1], in the dtype to compute in; H, W >= 32.

        Raises:
            InputError: the tensor has another shape, or pixel attention meets too large an image.
        """
        check_images(images)
        images = images.contiguous(memory_format=torch.channels_last)
        stages = self._stages(images.dtype)
        if not self.compiled:
            return stages.run(images)
        try:
            if self._program is None:
                self._program = torch.compile(Stages.run, dynamic=False, options=COMPILE_OPTIONS)
            return self._program(stages, images)
        except SamfeatError:
            raise
        except Exception as error:  # no C++ compiler, no Triton, an operator it cannot take: torch's own kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            logger.warning("torch.compile failed, the network runs without it: %s", reason)
            self.compiled, self._program = False, None
            self._ready.clear()
            return self._stages(images.dtype).run(images)

    @torch.inference_mode()
    def keypoint_logits(self, images: Tensor) -> Tensor:
        """The logits (B, 1, H, W) float32 of `forward` alone, with less work; never compiled.

        Raises:
            InputError: as `forward`.
        """
        check_images(images)
        return self._stages(images.dtype).keypoint_logits(images.contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def describe(self, maps: InferenceMaps, index: int, points: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Descriptors at points of one image of the batch.

        Args:
            maps: of `forward`.
            index: which image.
            points: (N, 2) pixels x, y.
            image_size: (W, H) of the image that the network saw.

        Returns:
            (N, D) float32, not normalised.
        """
        features = maps.features[index : index + 1]
        stages = self._stages(features.dtype)
        sampling = self.model.architecture.sampling
        height, width = features.shape[2:]
        if len(points) > DENSE_FROM * height * width:
            return sample(stages.describe_everywhere(features), points[None], image_size, sampling)[0]
        positions = cell_positions(points, (width, height), image_size, sampling)
        return torch.cat([stages.describe_at(features, part) for part in positions.split(CHUNK)])

    def attend(self, maps: InferenceMaps, index: int, points: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Attention (N,) float32 at points of one image of the batch; arguments as of `describe`."""
        attention, sampling = maps.attention[index : index + 1], self.model.architecture.sampling
        return sample(attention, points[None], image_size, sampling)[0, :, 0]

    def _stages(self, dtype: torch.dtype) -> Stages:
        with self._making:
            if dtype not in self._ready:
                self._ready[dtype] = (
                    QuantizedStages(self.model, dtype, measure_ranges(self.model))
                    if self.quantized
                    else Stages(self.model, dtype, plain=self.compiled)
                )
            return self._ready[dtype]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InferenceNetwork:
        self._ready.clear()
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": {}, "_making": None, "_program": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_making": threading.Lock()})
