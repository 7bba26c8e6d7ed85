"""Write the network as an ONNX file, for a robot or a service without torch, and check it against torch.

    python -m samfeat_hloc.export_onnx --output samfeat.onnx
    python -m samfeat_hloc.export_onnx --output maps.onnx --outputs maps

The input is `image`, (B, 3, H, W) float32 RGB in [0, 1]; batch, height and width are free, from 32 pixels up. By
default the outputs are what a matcher takes, as kornia's and LightGlue's ONNX extractors give it: `keypoints`,
`scores`, `descriptors` and `attention` of the best points, with suppression, sub-pixel fit and sampling inside the
graph, so that no code is needed around it. `--outputs maps` gives the network's dense maps `logits`, `descriptors`,
`attention` and `edges` to those who pick keypoints in their own way.
`samfeat_hloc.extractors.samfeat_onnx` runs the first kind.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import logging
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc import __version__
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.checkpoints import Weights, load_weights
from samfeat_hloc.config import to_dict
from samfeat_hloc.errors import ConfigError, MissingDependencyError, SamfeatError, run_cli
from samfeat_hloc.extractors.samfeat import SAMFeatConf, SAMFeatExtractor
from samfeat_hloc.onnx_form import KeypointsForm, MapsForm

logger = logging.getLogger(__name__)

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TRACED_AT = (2, 3, 72, 104)
CHECKED_AT = ((1, 3, 96, 128), (2, 3, 97, 131), (1, 3, 32, 40))
"""Shapes that the file is compared to torch at; none is the one it was made from."""
TOLERANCE = 1e-3
"""Largest difference that passes; measured are some 1e-5. Keypoints may differ by as many pixels."""
FOUND_AGAIN = 0.99
"""Share of torch's keypoints that ONNX must have; two equal in the last digit may change places."""


def main(
    output: Path | str,
    weights: str | Path | None = None,
    outputs: str = "keypoints",
    max_keypoints: int = 2048,
    threshold: float = SAMFeatConf.threshold,
    radius: int = SAMFeatConf.nms_radius,
    border: int = SAMFeatConf.border,
    opset: int = 18,
) -> dict[str, float]:
    """Export, check, and only then write the file.

    Args:
        output: the file.
        weights: name of shipped weights or a checkpoint's path; None: the shipped default.
        outputs: ``keypoints`` or ``maps``.
        max_keypoints: of each image, for ``keypoints`` as all that follow.
        threshold: least keypoint probability.
        radius: of the non-maximum suppression, pixels.
        border: keypoints nearer to the image's border are left out, pixels.
        opset: ONNX operator set, at least 18.

    Returns:
        the largest difference to torch of each output.

    Raises:
        MissingDependencyError: onnx, onnxscript or onnxruntime is missing, or torch is too old to export.
        ConfigError: a bad value, or weights whose attention limits the image's size.
        InputError: no such weights.
        SamfeatError: the file's results differ from torch's.
    """
    _check_packages()
    if outputs not in ("keypoints", "maps"):
        raise ConfigError(f"outputs is {outputs!r}; expected 'keypoints' or 'maps'")
    if opset < 18:
        raise ConfigError(f"opset is {opset}; expected at least 18, which onnxruntime has had since 1.14")
    loaded = load_weights(weights)
    model = loaded.build()
    form = MapsForm(model) if outputs == "maps" else KeypointsForm(model, max_keypoints, threshold, radius, border)
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        _write(form.eval(), temporary, opset, loaded)
        differences = check(form, temporary, loaded)
    return differences


def check(form: MapsForm, path: Path, weights: Weights) -> dict[str, float]:
    """Largest difference of each output between an ONNX file in onnxruntime and torch, over shapes it was not made at.

    Dense maps are compared to the network's, keypoints to those of the package's extractor in float32.

    Raises:
        SamfeatError: one is larger than `TOLERANCE`, or keypoints are missing.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(form.names, 0.0)
    generator = torch.Generator().manual_seed(0)
    for shape in CHECKED_AT:
        coarse = torch.rand(*shape[:2], shape[2] // 5, shape[3] // 5, generator=generator)
        image = F.interpolate(coarse, shape[2:], mode="bicubic").clamp(0, 1)
        got = [torch.from_numpy(array) for array in session.run(None, {"image": image.numpy()})]
        compare = _compare_keypoints if isinstance(form, KeypointsForm) else _compare_maps
        for name, difference in zip(form.names, compare(form, weights, image, got), strict=True):
            worst[name] = max(worst[name], difference)
    beyond = {name: difference for name, difference in worst.items() if not difference <= TOLERANCE}
    if beyond:
        raise SamfeatError(
            f"onnxruntime {onnxruntime.__version__} differs from torch by {beyond}, expected at most {TOLERANCE}; "
            "try another --opset or another version of onnxscript or onnxruntime; nothing was written"
        )
    return worst


def _compare_maps(form: MapsForm, weights: Weights, image: Tensor, got: list[Tensor]) -> list[float]:
    height, width = image.shape[2:]
    padded = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
    with torch.inference_mode():
        maps = form.model(padded * 2 - 1)
    expected = (maps.logits[:, :, :height, :width], maps.descriptors, maps.attention, maps.edges)
    return [float((a - b).abs().max()) for a, b in zip(got, expected, strict=True)]


def _compare_keypoints(form: MapsForm, weights: Weights, image: Tensor, got: list[Tensor]) -> list[float]:
    assert isinstance(form, KeypointsForm)
    conf = SAMFeatConf(
        max_keypoints=form.max_keypoints, threshold=form.threshold, nms_radius=form.radius, border=form.border,
        precision="float32", device="cpu",
    )  # fmt: skip
    worst = [0.0] * 4
    for index, expected in enumerate(SAMFeatExtractor(weights, conf)(image)):
        keypoints, scores, descriptors, attention = (part[index][got[1][index] > 0] for part in got)
        if expected.n == 0 and len(keypoints) == 0:
            continue
        distance, other = torch.cdist(expected.keypoints, keypoints).min(dim=1) if len(keypoints) else (None, None)
        same = distance < 0.1 if distance is not None else torch.zeros(expected.n, dtype=torch.bool)
        missing = expected.n - int(same.sum())
        if missing > (1 - FOUND_AGAIN) * expected.n + 1 or abs(len(keypoints) - expected.n) > missing + 1:
            raise SamfeatError(
                f"onnxruntime gives {len(keypoints)} keypoints where torch gives {expected.n}, of which {missing} are "
                "missing; try another version of onnxscript or onnxruntime; nothing was written"
            )
        if other is None or missing == expected.n:
            continue
        pairs = (
            (keypoints[other], expected.keypoints), (scores[other], expected.scores),
            (descriptors[other], expected.descriptors), (attention[other], expected.attention),
        )  # fmt: skip
        worst = [max(old, float((a - b)[same].abs().max())) for old, (a, b) in zip(worst, pairs, strict=True)]
    return worst


def _write(form: MapsForm, path: Path, opset: int, weights: Weights) -> None:
    batch, height, width = (
        torch.export.Dim("batch"), torch.export.Dim("height", min=32), torch.export.Dim("width", min=32)
    )  # fmt: skip
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # they and the exporter tell their steps
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            form, (torch.rand(TRACED_AT),), dynamo=True, opset_version=opset, verbose=False,
            input_names=["image"], output_names=list(form.names), dynamic_shapes=({0: batch, 2: height, 3: width},),
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(
        {
            "samfeat_hloc": __version__,
            "weights_sha256": weights.sha256,
            "architecture": json.dumps(to_dict(weights.architecture)),
            "outputs": ",".join(form.names),
        }
    )
    program.save(str(path), external_data=False)


def _check_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"exporting to ONNX needs {', '.join(missing)}; run: pip install 'samfeat-hloc[onnx]'"
        )
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        raise MissingDependencyError(
            f"exporting to ONNX needs torch 2.6 or later, this is {torch.__version__}; run: pip install -U torch"
        )


def _cli() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file")
    parser.add_argument("--weights", help="name of shipped weights or a checkpoint; the shipped default")
    parser.add_argument("--outputs", default="keypoints", help="keypoints (default) or maps")
    parser.add_argument("--max-keypoints", type=int, default=2048)
    parser.add_argument("--threshold", type=float, default=SAMFeatConf.threshold, help="least keypoint probability")
    parser.add_argument("--nms-radius", type=int, default=SAMFeatConf.nms_radius, help="pixels")
    parser.add_argument("--border", type=int, default=SAMFeatConf.border, help="pixels")
    parser.add_argument("--opset", type=int, default=18)
    args = parser.parse_args()
    differences = main(
        args.output, args.weights, args.outputs, args.max_keypoints, args.threshold, args.nms_radius, args.border,
        args.opset,
    )  # fmt: skip
    size = args.output.stat().st_size / 2**20
    print(
        f"{args.output}: {size:.1f} MiB, opset {args.opset}; largest difference to torch over {len(CHECKED_AT)} sizes:"
    )
    for name, difference in differences.items():
        print(f"  {name:12s} {difference:.1e}")


if __name__ == "__main__":
    run_cli(_cli)
