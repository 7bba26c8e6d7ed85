"""Local features of all photographs of a folder: images -> features.h5.

    python -m samfeat_hloc.extract_features --image_dir images --export_dir out --conf samfeat

Resumable: every finished image is safe at once, whatever happens to the process; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.extractors import MODULES, Extractor, extractor_signature, get_extractor
from samfeat_hloc.formats.features import FeatureReader, Features, FeatureWriter
from samfeat_hloc.formats.image_lists import ImageList, read_image_list
from samfeat_hloc.images import RGBImage, list_images, read_ahead, stored_size, to_stored_pixels
from samfeat_hloc.progress import progress

logger = logging.getLogger(__name__)
Group = list[tuple[str, RGBImage, int]]
"""Photographs of one size that the network gets at once: name, image, EXIF orientation."""
Waiting = deque[tuple[Group, "Future[list[Features]]"]]
"""Groups that are under way, in order."""
PARALLEL_PIXELS = 2**19
"""Of a photograph that shares the processor with others; a larger one has all cores by itself, to save memory."""
READERS = 2  # decoding threads; the network takes longer than they do


def main(
    conf: str | Mapping[str, Any],
    image_dir: Path | str,
    export_dir: Path | str | None = None,
    as_half: bool = True,
    image_list: ImageList | None = None,
    feature_path: Path | str | None = None,
    overwrite: bool = False,
    extractor: Extractor | None = None,
    batch: int | None = None,
) -> Path:
    """Extract the features of a folder's photographs, or of those listed, into one h5 file.

    Photographs are decoded ahead in threads and features are written in another while the network runs. On a CPU the
    network takes up to four photographs of at most half a megapixel at once, each on its part of the cores. Memory
    beside the network's: photographs that are read ahead, extracted and written (`batch` times their number and two,
    and 5 more, 3 bytes a pixel), and two batches' features (2.3 MB a photograph of 4096 keypoints with 128 float32).

    Photographs are turned upright by their EXIF orientation for the extractor; the keypoints in the file are in
    stored pixels, and the group's attribute `exif_orientation` has the orientation. An unreadable image is left
    out and listed with the reason in `FEATURES.skipped.json`; the rest completes.

    Args:
        conf: an extractor's conf by name, or a dict (see `samfeat_hloc.extractors.get_extractor`).
        image_dir: the root that image names are relative to.
        export_dir: where `feats-CONF.h5` goes unless `feature_path` is given.
        as_half: descriptors as float16; keypoints are always float32.
        image_list: names, or a text file of names; None: every image below `image_dir`.
        feature_path: the output file.
        overwrite: replace the output file; it stays as it is until the new one is complete.
        extractor: one that was made before; `conf` then only names the output.
        batch: consecutive photographs of one size that the network gets at once; they are finished together, so that
            a kill loses those that the network has at once. Default: the extractor's, 1 on a CPU, where more gain
            nothing, and 8 on CUDA. The features are the same but for rounding.

    Returns:
        the output file.

    Raises:
        InputError: no image, no readable image, an image that changed since its features were made, or an output
            file that was made with another conf or other weights.
        ConfigError: an unknown conf or key, or a batch below 1.
    """
    if batch is not None and batch < 1:
        raise ConfigError(f"batch is {batch}; expected at least 1")
    root = Path(image_dir)
    names = list_images(root) if image_list is None else read_image_list(image_list)
    if not root.is_dir():
        raise InputError(f"the image folder {root} does not exist; check the path")
    path = _output(conf, export_dir, feature_path)
    extractor = extractor or get_extractor(conf)
    writer = FeatureWriter(
        path,
        extractor_signature(extractor),
        extractor.weights_sha256,
        as_half=as_half,
        overwrite=overwrite,
        precision=extractor.precision,
    )
    together = batch or extractor.default_batch
    skipped: dict[str, str] = {}
    with writer:
        if not overwrite:
            _check_unchanged(path, root, names)
        todo = [name for name in names if name not in writer.done]
        if len(todo) < len(names):
            logger.info("%s has %d of %d images already", path, len(names) - len(todo), len(names))
        items = read_ahead(root, todo, workers=READERS, ahead=2 * READERS)
        shown = progress(items, total=len(todo), desc="features", unit="image")
        with ThreadPoolExecutor(1, "write") as pool:  # its end waits for what is being written
            pending: Future[None] | None = None
            for group, found in _extracted(_groups(shown, together, skipped), extractor):
                if pending is not None:
                    pending.result()
                pending = pool.submit(_write, writer, root, group, found)
            if pending is not None:
                pending.result()
        _report_skipped(path, names, skipped)
    return path


def _groups(
    items: Iterable[tuple[str, RGBImage | None, int, str]], together: int, skipped: dict[str, str]
) -> Iterator[Group]:
    """Consecutive readable photographs of one size, up to `together`."""
    group: Group = []
    for name, image, orientation, reason in items:
        if image is None:
            skipped[name] = reason
            continue
        if group and group[0][1].shape != image.shape:
            yield group
            group = []
        group.append((name, image, orientation))
        if len(group) == together:
            yield group
            group = []
    if group:
        yield group


def _extracted(groups: Iterable[Group], extractor: Extractor) -> Iterator[tuple[Group, list[Features]]]:
    """The groups with their features, in order, as many at once as are worth it."""
    calls = extractor.parallel
    if calls == 1:
        for group in groups:
            yield group, extractor.extract_many([image for _, image, _ in group])
        return
    waiting: Waiting = deque()
    try:
        with ThreadPoolExecutor(calls, "extract", extractor.share, (calls,)) as pool:
            try:
                for group in groups:
                    images = [image for _, image, _ in group]
                    if images[0].shape[0] * images[0].shape[1] > PARALLEL_PIXELS:
                        yield from _drained(waiting)
                        yield group, extractor.extract_many(images)
                        continue
                    waiting.append((group, pool.submit(extractor.extract_many, images)))
                    while len(waiting) > calls:  # one more than run, so that none waits for the next image
                        ready, future = waiting.popleft()
                        yield ready, future.result()
                yield from _drained(waiting)
            finally:
                for _, future in waiting:
                    future.cancel()
    finally:
        extractor.share(1)


def _drained(waiting: Waiting) -> Iterator[tuple[Group, list[Features]]]:
    while waiting:
        group, future = waiting.popleft()
        yield group, future.result()


def _write(writer: FeatureWriter, root: Path, group: Group, found: Sequence[Features]) -> None:
    for (name, image, orientation), features in zip(group, found, strict=True):
        attrs = {"exif_orientation": orientation, "source_bytes": (root / name).stat().st_size}
        writer.add(name, _upright_to_stored(features, image, orientation), attrs)


def _upright_to_stored(features: Features, image: RGBImage, orientation: int) -> Features:
    if orientation == 1:
        return features
    width, height = stored_size((image.shape[1], image.shape[0]), orientation)
    return Features(
        keypoints=to_stored_pixels(features.keypoints, orientation, width, height),
        descriptors=features.descriptors,
        scores=features.scores,
        attention=features.attention,
        image_size=(width, height),
        uncertainty=features.uncertainty,
    )


def _output(conf: str | Mapping[str, Any], export_dir: Path | str | None, feature_path: Path | str | None) -> Path:
    if feature_path is not None:
        return Path(feature_path)
    if export_dir is None:
        raise InputError("nowhere to write the features; give export_dir or feature_path")
    if isinstance(conf, str):
        stem = f"feats-{conf}"
    else:
        stem = str(conf.get("output") or f"feats-{conf.get('name', 'features')}")
    return Path(export_dir) / f"{stem}.h5"


def _check_unchanged(path: Path, root: Path, names: Sequence[str]) -> None:
    """Features of an image that was replaced since are not silently kept."""
    if not path.exists():
        return
    with FeatureReader(path) as reader:
        for name in names:
            if name not in reader:
                continue
            recorded = reader.item_attrs(name).get("source_bytes")
            file = root / name
            if recorded is not None and file.is_file() and file.stat().st_size != recorded:
                raise InputError(
                    f"{file} is another file than the one whose features are in {path} ({file.stat().st_size} bytes, "
                    f"then {recorded}); give another output path, or --overwrite to replace it"
                )


def _report_skipped(path: Path, names: Sequence[str], skipped: Mapping[str, str]) -> None:
    """Write FEATURES.skipped.json (kept for images of other lists), warn, and refuse a run without any image."""
    report = path.with_suffix(".skipped.json")
    asked = set(names)
    kept = json.loads(report.read_text()) if report.exists() else []
    rows = [row for row in kept if row["name"] not in asked]
    rows += [{"name": name, "reason": reason} for name, reason in skipped.items()]
    if rows:
        with replace_file(report) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n")
    else:
        report.unlink(missing_ok=True)
    if skipped:
        first = next(iter(skipped.values()))
        if len(skipped) == len(names):
            raise InputError(f"none of the {len(names)} images could be read; the first: {first}")
        logger.warning("warning: left out %d unreadable images, listed in %s; first: %s", len(skipped), report, first)


def cli() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_dir", type=Path, required=True, help="root of the image names")
    parser.add_argument("--export_dir", type=Path, help="folder of the output, feats-CONF.h5")
    parser.add_argument("--feature_path", type=Path, help="the output file itself")
    parser.add_argument("--conf", default="samfeat", help=f"one of {', '.join(MODULES)}")
    parser.add_argument("--image_list", help="text file of names; a * matches several; default: all images")
    parser.add_argument("--max_keypoints", type=int, help="replaces the conf's")
    parser.add_argument("--weights", help="replaces the conf's (samfeat)")
    parser.add_argument("--as_half", action=argparse.BooleanOptionalAction, default=True, help="float16 descriptors")
    parser.add_argument("--batch", type=int, help="photographs of one size at once; default: 1 on a CPU, 8 on CUDA")
    parser.add_argument("--overwrite", action="store_true", help="replace the output file")
    args = parser.parse_args()
    conf: dict[str, Any] = {"name": args.conf}
    conf |= {key: value for key in ("max_keypoints", "weights") if (value := vars(args)[key]) is not None}
    path = main(
        conf,
        args.image_dir,
        args.export_dir,
        args.as_half,
        args.image_list,
        args.feature_path,
        args.overwrite,
        batch=args.batch,
    )
    print(path)


if __name__ == "__main__":
    run_cli(cli)
