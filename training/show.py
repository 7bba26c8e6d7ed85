"""What the network sees in a photograph: learned edges, heat map, attention and keypoints side by side (paper, Fig. 8).

    python -m training.show IMAGE [IMAGE ...] --weights FILE --output show.png

One row a photograph. Edges and keypoint probabilities are drawn on the fixed scale 0 to 1, attention from its 1st to
its 99th percentile; titles have the ranges. The edge head shows edges only when an edge teacher trained it: the shipped
samfeat-photos-1 had none, and its edge map is whatever gate helped its detector and descriptor.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.images import RGBImage, read_image
from samfeat_hloc.keypoints import detect, refine
from samfeat_hloc.model import MIN_SIDE
from samfeat_hloc.precision import Runtime, choose_runtime
from samfeat_hloc.progress import progress
from training.panels import colour, resized, stacked, titled_row

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """The network's maps of one photograph.

    Attributes:
        photo: (H, W, 3) uint8 RGB, the image the network was given.
        edges: (h, w) in [0, 1].
        heat: (H, W) keypoint probability.
        attention: (h, w) >= 0, the weight of a descriptor.
        keypoints: (N, 2) x, y in pixels of `photo`, best first.
        scores: (N,) their probability.
    """

    photo: RGBImage
    edges: FloatArray
    heat: FloatArray
    attention: FloatArray
    keypoints: FloatArray
    scores: FloatArray


@torch.inference_mode()
def look(
    image: RGBImage,
    network: nn.Module,
    runtime: Runtime,
    max_keypoints: int = 1000,
    max_side: int = 1024,
    refinement: str = "quadratic",
) -> Seen:
    """Run the network on an (H, W, 3) uint8 RGB image, reduced to a long side of at most `max_side`.

    Raises:
        InputError: the network's output is not finite.
    """
    from samfeat_hloc.extractors.samfeat import CONFS

    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    factor = min(1.0, max_side / max(image.shape[:2]))
    size = [max(MIN_SIDE, round(side * factor)) for side in image.shape[:2]]
    if size != list(image.shape[:2]):
        pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
    height, width = size
    padded = F.pad(pixels, (0, -width % 8, 0, -height % 8), mode="replicate")
    with runtime.autocast():
        maps = network(runtime.images(padded) * 2 - 1)
    logits = maps.logits.float()
    if not torch.isfinite(logits).all():
        raise InputError("the weights give values that are not finite; check the weights")
    heat, conf = torch.sigmoid(logits), CONFS["samfeat"]
    found = detect(
        heat, radius=conf.nms_radius, threshold=conf.threshold, border=conf.border, max_keypoints=max_keypoints,
        rounds=conf.nms_rounds, image_sizes=torch.tensor([[width, height]], device=heat.device),
    )[0]  # fmt: skip
    coarse = -(-height // 4), -(-width // 4)
    return Seen(
        photo=(pixels[0].permute(1, 2, 0) * 255).round().byte().numpy(),
        edges=_array(maps.edges[0, 0, : coarse[0], : coarse[1]]),
        heat=_array(heat[0, 0, :height, :width]),
        attention=_array(maps.attention[0, 0, : coarse[0], : coarse[1]]),
        keypoints=_array(refine(logits[0, 0], found.points, refinement)),
        scores=_array(found.scores),
    )


def draw_row(seen: Seen, title: str, width: int = 400) -> RGBImage:
    """Five titled pictures of `width` pixels side by side, (H, W, 3) RGB.

    Args:
        seen: of one photograph.
        title: of the photograph.
        width: of a picture.
    """
    height = max(1, round(width * seen.photo.shape[0] / seen.photo.shape[1]))
    low, high = np.percentile(seen.attention, [1, 99])
    attention = (seen.attention - low) / max(high - low, 1e-6)
    photo = resized(seen.photo, width, height)
    faint = (photo.mean(axis=2, keepdims=True) * 0.45).astype(np.uint8).repeat(3, axis=2)
    grey = np.repeat(resized(_to_byte(seen.edges), width, height)[..., None], 3, axis=2)
    pictures = {
        title: photo,
        f"learned edges, {seen.edges.min():.2f} to {seen.edges.max():.2f}": grey,
        f"heat map, 0 to {seen.heat.max():.2f}": colour(_peaks(seen.heat, width, height)),
        f"attention, {low:.2f} to {high:.2f}": colour(resized(_to_byte(attention), width, height) / 255),
        f"{len(seen.keypoints)} keypoints": _with_points(faint, seen, width / seen.photo.shape[1]),
    }
    return titled_row(pictures)


def show(
    images: Sequence[Path | str],
    output: Path | str = "show.png",
    weights: str | None = None,
    max_keypoints: int = 1000,
    max_side: int = 1024,
    width: int = 400,
    device: str | None = None,
) -> Path:
    """Write the picture of one or several photographs as PNG, atomically.

    Args:
        images: files.
        output: the PNG.
        weights: name of shipped weights, or a checkpoint's path; None: the shipped default.
        max_keypoints: drawn, the best.
        max_side: photographs are reduced to it for the network.
        width: of each of the five pictures in a row, pixels.
        device: cpu, cuda, cuda:N; None: CUDA where there is one.

    Raises:
        InputError: a photograph or the weights cannot be read.
        ConfigError: a value out of range.
    """
    from PIL import Image

    from samfeat_hloc.checkpoints import load_weights

    if max_keypoints < 1 or max_side < MIN_SIDE or width < MIN_SIDE:
        raise ConfigError(
            f"keypoints is {max_keypoints}, max_side {max_side}, width {width}; expected >= 1, {MIN_SIDE}, {MIN_SIDE}"
        )
    photos = [read_image(path)[0] for path in images]
    runtime = choose_runtime(device)
    loaded = load_weights(weights)
    network, refinement = runtime.prepare(loaded.build()), loaded.architecture.refinement
    rows = []
    for path, photo in progress(list(zip(images, photos, strict=True)), total=len(photos), desc="show", unit="photo"):
        seen = look(photo, network, runtime, max_keypoints, max_side, refinement)
        rows += [draw_row(seen, Path(path).name, width)]
    with replace_file(output) as temporary:
        Image.fromarray(stacked(rows)).save(temporary, format="PNG")
    return Path(output)


def _array(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array


def _to_byte(values: FloatArray) -> npt.NDArray[np.uint8]:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _peaks(heat: FloatArray, width: int, height: int) -> FloatArray:
    """The heat map at another size; the largest value of each pixel stays: a mean would swallow peaks a pixel wide."""
    return _array(F.adaptive_max_pool2d(torch.from_numpy(heat)[None, None], (height, width))[0, 0])


def _with_points(picture: RGBImage, seen: Seen, scale: float) -> RGBImage:
    """A dot on each keypoint, the best on top, coloured by score."""
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    places = (seen.keypoints + 0.5) * scale - 0.5
    shades = colour(0.55 + 0.45 * seen.scores)
    for (x, y), shade in zip(places[::-1].tolist(), shades[::-1].tolist(), strict=True):
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=tuple(shade))
    return np.asarray(canvas)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--weights", help="name of shipped weights, or a checkpoint; default: the shipped default")
    parser.add_argument("--output", type=Path, default=Path("show.png"), help="the PNG; default: show.png")
    parser.add_argument("--keypoints", type=int, default=1000, help="drawn, the best")
    parser.add_argument("--max-side", type=int, default=1024, help="photographs are reduced to it for the network")
    parser.add_argument("--width", type=int, default=400, help="of each picture, pixels")
    parser.add_argument("--device", help="cpu, cuda, cuda:N; default: CUDA where there is one")
    args = parser.parse_args()
    print(show(args.images, args.output, args.weights, args.keypoints, args.max_side, args.width, args.device))


if __name__ == "__main__":
    run_cli(main)
