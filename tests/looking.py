"""A detector that is asked through a look."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from samfeat_hloc.looks import Look, as_given, show


def logits_through(network: Callable[[Tensor], Tensor], images: Tensor, look: Look) -> Tensor:
    """Its logits (B, 1, H, W) of images (B, 3, H, W) that it sees through the look."""
    return as_given(network(show(images, look)), look, images.shape[2:])
