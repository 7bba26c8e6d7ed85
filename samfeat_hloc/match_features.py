"""Matches of all pairs of a list: pairs.txt + features.h5 -> matches.h5.

    python -m samfeat_hloc.match_features --pairs pairs.txt --features features.h5 --matches matches.h5 --conf nn-mutual

Resumable: every finished pair is safe at once, whatever happens to the process; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader, MatchWriter
from samfeat_hloc.formats.names import check_pair_keys
from samfeat_hloc.formats.pairs import Pair, read_pairs, unique_pairs
from samfeat_hloc.matchers import MODULES, Matcher, get_matcher, matcher_signature
from samfeat_hloc.matchers.schedule import PreparedCache, match_pairs, order_pairs
from samfeat_hloc.progress import progress

logger = logging.getLogger(__name__)
DEFAULT_CACHE_MB = 256  # 230 images of 4096 keypoints with 128 float16 each


def main(
    conf: str | Mapping[str, Any],
    pairs: Path | str | Iterable[Pair],
    features: Path | str,
    export_dir: Path | str | None = None,
    matches: Path | str | None = None,
    features_ref: Path | str | None = None,
    overwrite: bool = False,
    cache_mb: int = DEFAULT_CACHE_MB,
) -> Path:
    """Match the pairs of a list into one h5 file; a pair and its reverse are matched once.

    As many pairs are matched at once as torch has threads (`torch.set_num_threads`, OMP_NUM_THREADS), while the calling
    thread reads ahead and writes. Memory: `cache_mb`, and about 20 MB a thread for images of 4096 keypoints. On CUDA
    the cache is the device's memory.

    Args:
        conf: a matcher's conf by name, or a dict (see `samfeat_hloc.matchers.get_matcher`).
        pairs: a pair list's file, or pairs of names.
        features: features.h5, or with `export_dir` its name without folder and ending.
        export_dir: where `FEATURES_CONF_PAIRS.h5` goes unless `matches` is given; default: beside the features.
        matches: the output file.
        features_ref: features of the second images; default: the same file.
        overwrite: replace the output file; it stays as it is until the new one is complete.
        cache_mb: memory for descriptors that are kept for further pairs.

    Returns:
        the output file.

    Raises:
        InputError: a pair that names an image without features, names that collide in matches.h5, or an output file
            made with another matcher, from other features, or when an image had other keypoints.
        ConfigError: an unknown conf or key.
    """
    matcher = get_matcher(conf)
    source = f"the pair list {pairs}" if isinstance(pairs, (str, Path)) else "the pairs"
    wanted = unique_pairs(read_pairs(pairs) if isinstance(pairs, (str, Path)) else pairs)
    path0 = _features_path(features, export_dir)
    path = _output(matcher, pairs, path0, export_dir, matches)
    with ExitStack() as stack:
        reader0 = stack.enter_context(FeatureReader(path0))
        reader1 = reader0 if features_ref is None else stack.enter_context(FeatureReader(features_ref))
        reader0.check([name0 for name0, _ in wanted], source)
        reader1.check([name1 for _, name1 in wanted], source)
        check_pair_keys(wanted)
        if not overwrite:
            _check_unchanged(path, wanted, reader0, reader1)
        writer = MatchWriter(
            path, matcher_signature(matcher), reader0.signature, reader1.signature, overwrite=overwrite
        )
        with writer:
            missing = {pair for pair in wanted if not writer.has(*pair)}
            if len(missing) < len(wanted):
                logger.info("%s has %d of %d pairs already", path, len(wanted) - len(missing), len(wanted))
            cache = PreparedCache(matcher, cache_mb * 2**20)
            # the order of all pairs, not of the missing ones: a run that was interrupted ends with the same file
            todo = [pair for pair in order_pairs(wanted, reader0, reader1, cache) if pair in missing] if missing else []
            found = match_pairs(matcher, todo, reader0, reader1, cache)
            for (name0, name1), result in progress(found, total=len(todo), desc="matches", unit="pair"):
                writer.add(name0, name1, result.matches0, result.scores0, result.num_keypoints1)
            cache.clear()  # the file is put together next, which takes memory, too
    return path


def _features_path(features: Path | str, export_dir: Path | str | None) -> Path:
    """hloc's rule: a path, or the name of a file in `export_dir`."""
    if isinstance(features, str) and export_dir is not None and not Path(features).exists():
        return Path(export_dir) / f"{features.removesuffix('.h5')}.h5"
    return Path(features)


def _output(
    matcher: Matcher,
    pairs: Path | str | Iterable[Pair],
    features: Path,
    export_dir: Path | str | None,
    matches: Path | str | None,
) -> Path:
    if matches is not None:
        return Path(matches)
    if not isinstance(pairs, (str, Path)):
        raise InputError("nowhere to write the matches; give the output file (matches)")
    folder = Path(export_dir) if export_dir is not None else features.parent
    return folder / f"{features.stem}_{matcher.name}_{Path(pairs).stem}.h5"


def _check_unchanged(path: Path, pairs: Iterable[Pair], reader0: FeatureReader, reader1: FeatureReader) -> None:
    """Matches are indices: pairs matched before their features were made again are not silently kept."""
    if not path.exists():
        return
    with MatchReader(path) as stored:
        for name0, name1 in pairs:
            if not stored.has(name0, name1):
                continue
            now = (reader0.num_keypoints(name0), reader1.num_keypoints(name1))
            then = stored.sizes(name0, name1)
            if now[0] != then[0] or then[1] not in (None, now[1]):
                raise InputError(
                    f"{path}: '{name0}' and '{name1}' had {then[0]} and {then[1]} keypoints when they were matched and "
                    f"have {now[0]} and {now[1]} now; give another output path, or --overwrite to replace it"
                )


def cli() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="pair list: two image names a line")
    parser.add_argument("--features", required=True, help="features.h5, or its name in --export_dir")
    parser.add_argument("--export_dir", type=Path, help="folder of the output; default: beside the features")
    parser.add_argument("--matches", type=Path, help="the output file itself")
    parser.add_argument("--features_ref", type=Path, help="features of the second images; default: the same file")
    parser.add_argument("--conf", default="nn-mutual", help=f"one of {', '.join(MODULES)}")
    parser.add_argument("--cache_mb", type=int, default=DEFAULT_CACHE_MB, help="memory for descriptors kept")
    parser.add_argument("--overwrite", action="store_true", help="replace the output file")
    args = parser.parse_args()
    path = main(
        args.conf,
        args.pairs,
        args.features,
        args.export_dir,
        args.matches,
        args.features_ref,
        args.overwrite,
        args.cache_mb,
    )
    print(path)


if __name__ == "__main__":
    run_cli(cli)
