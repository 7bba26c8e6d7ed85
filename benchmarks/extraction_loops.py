"""A whole extraction loop in a process of its own: photographs on the disk to a features file, ours or hloc's.

    python -m benchmarks.extraction_loops LOOP IMAGES KEYPOINTS [WEIGHTS]

Prints the seconds per image as JSON. `hloc plain` is what a model in hloc is, a module in float32 with torch's default
layout: the trained network's own forward pass, with our code for keypoints; `hloc float32` and `hloc` are this
package's plug-in in hloc, in float32 and as it ships; `ours` is the stage, `ours int8` with the conf `samfeat-int8`.
Making the model is not counted.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

LOOPS = ("hloc plain", "hloc float32", "hloc", "ours", "ours int8")
WARM_UP = 2
"""Images of a first run, not counted."""


def seconds_per_image(loop: str, images: Path, max_keypoints: int, weights: str | None) -> float:
    """Run one loop over all images of a folder.

    Raises:
        InputError: fewer images than the warm-up needs.
        MissingDependencyError: hloc cannot be imported.
    """
    from samfeat_hloc.errors import InputError
    from samfeat_hloc.images import list_images

    names = list_images(images)
    if len(names) <= WARM_UP:
        raise InputError(f"{images} has {len(names)} images; expected more than {WARM_UP}")
    make = _ours if loop.startswith("ours") else _hloc
    with tempfile.TemporaryDirectory() as folder:
        run = make(loop, images, max_keypoints, weights, Path(folder))
        run(names[:WARM_UP], "warm-up.h5")
        start = time.perf_counter()
        not_counted = run(names, "features.h5")
        return (time.perf_counter() - start - not_counted) / len(names)


def _ours(
    loop: str, images: Path, max_keypoints: int, weights: str | None, folder: Path
) -> Callable[[list[str], str], float]:
    from samfeat_hloc import extract_features
    from samfeat_hloc.extractors import get_extractor

    conf = "samfeat-int8" if loop == "ours int8" else "samfeat"
    extractor = get_extractor(conf, max_keypoints=max_keypoints, weights=weights)

    def run(names: list[str], file: str) -> float:
        extract_features.main("samfeat", images, feature_path=folder / file, image_list=names, extractor=extractor)
        return 0.0

    return run


def _hloc(
    loop: str, images: Path, max_keypoints: int, weights: str | None, folder: Path
) -> Callable[[list[str], str], float]:
    import samfeat_hloc

    samfeat_hloc.register_with_hloc()
    hloc = importlib.import_module("hloc.extract_features")
    base: Any = importlib.import_module("hloc.utils.base_model").BaseModel
    made = [0.0]
    make = base.__init__

    def timed(self: Any, *arguments: Any) -> None:
        start = time.perf_counter()
        make(self, *arguments)
        made[0] += time.perf_counter() - start

    base.__init__ = timed
    model: dict[str, Any] = {"name": "samfeat", "max_keypoints": max_keypoints, "weights": weights}
    if loop == "hloc plain":
        _add_plain_model(base)
        model["name"] = "samfeat_plain"
    elif loop == "hloc float32":
        model["precision"] = "float32"
    conf = {"output": "features", "model": model, "preprocessing": {"grayscale": False}}

    def run(names: list[str], file: str) -> float:
        before = made[0]
        (folder / "names.txt").write_text("\n".join(names) + "\n")
        hloc.main(conf, images, feature_path=folder / file, image_list=folder / "names.txt")
        return made[0] - before

    return run


def _add_plain_model(base: Any) -> None:
    """`hloc.extractors.samfeat_plain`: the trained network as anyone would put it into hloc."""
    import torch

    from benchmarks.extraction_settings import Place, Plain

    class SAMFeatPlain(base):  # type: ignore[misc]
        default_conf = {"max_keypoints": 2048, "weights": None}  # noqa: RUF012
        required_inputs = ["image"]  # noqa: RUF012

        def _init(self, conf: dict[str, Any]) -> None:
            place = Place(conf["weights"], conf["max_keypoints"], Path())
            self.plain = Plain(place, channels_last=False, dtype=torch.float32)

        def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
            points, scores, descriptors, attention = self.plain.features(data["image"])
            features = {"descriptors": descriptors.T, "scores": scores, "attention": attention}
            return {"keypoints": points.double()[None], **{name: part[None] for name, part in features.items()}}

    name = "hloc.extractors.samfeat_plain"
    SAMFeatPlain.__module__ = name
    module = ModuleType(name)
    module.SAMFeatPlain = SAMFeatPlain  # type: ignore[attr-defined]
    sys.modules[name] = module
    importlib.import_module("hloc.extractors").samfeat_plain = module  # type: ignore[attr-defined]


def _cli() -> None:
    if len(sys.argv) not in (4, 5) or sys.argv[1] not in LOOPS:
        from samfeat_hloc.errors import InputError

        raise InputError(f"got {sys.argv[1:]}; expected LOOP IMAGES KEYPOINTS [WEIGHTS] with LOOP of {LOOPS}")
    loop, images, count, *weights = sys.argv[1:]
    if loop == "hloc plain":
        os.environ["THP_MEM_ALLOC_ENABLE"] = "0"  # ours sets it when it is imported; a model of hloc does not
    print(json.dumps({"seconds": seconds_per_image(loop, Path(images), int(count), weights[0] if weights else None)}))


if __name__ == "__main__":
    from samfeat_hloc.errors import run_cli

    run_cli(_cli)
