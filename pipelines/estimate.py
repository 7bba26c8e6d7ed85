"""What a run will take, measured on this machine before it starts."""

from __future__ import annotations

import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.features import Features, Float32Array
from samfeat_hloc.matchers import Matcher
from samfeat_hloc.matchers.schedule import MAX_WORKERS

BASE_MB = 700
"""What the interpreter, torch and pycolmap hold."""
SECONDS_PER_LOCALIZATION = 0.1
BYTES_PER_POINT = 600
"""Of a COLMAP model in memory, tracks included."""


@dataclass(frozen=True)
class Estimate:
    """Seconds and megabytes a run will take."""

    extraction_s: float
    matching_s: float
    localization_s: float
    memory_mb: float
    disk_mb: float

    def __str__(self) -> str:
        total = self.extraction_s + self.matching_s + self.localization_s
        return (
            f"about {minutes(total)} (features {minutes(self.extraction_s)}, matching {minutes(self.matching_s)}, "
            f"localization {minutes(self.localization_s)}), {self.memory_mb:.0f} MB of memory, "
            f"{self.disk_mb:.0f} MB of disk"
        )


def minutes(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(
    extractor: Extractor,
    matcher: Matcher,
    image_size: tuple[int, int],
    num_images: int,
    num_queries: int,
    num_pairs: int,
    max_keypoints: int,
    cache_mb: int,
) -> Estimate:
    """Time one extraction and one match of full size on each core, and multiply.

    Args:
        extractor, matcher: those of the run.
        image_size: (W, H) of a typical image.
        num_images, num_queries, num_pairs: of the run.
        max_keypoints: an image.
        cache_mb: of the matcher.
    """
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (image_size[1], image_size[0], 3), dtype=np.uint8)
    extractor(image)  # the first call allocates
    per_image = _seconds(lambda: extractor(image))
    per_pair = _seconds_per_pair(matcher, [_random_features(rng, max_keypoints) for _ in range(2)])
    megapixels = image_size[0] * image_size[1] / 1e6
    network_mb = 900 * megapixels
    points = num_images * max_keypoints / 4
    return Estimate(
        extraction_s=per_image * num_images,
        matching_s=per_pair * num_pairs,
        localization_s=SECONDS_PER_LOCALIZATION * num_queries,
        memory_mb=BASE_MB + max(network_mb, cache_mb + BYTES_PER_POINT * points / 1e6),
        disk_mb=(num_images * max_keypoints * 280 + num_pairs * max_keypoints * 6) / 1e6,
    )


def _seconds(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


def _seconds_per_pair(matcher: Matcher, features: list[Features]) -> float:
    """As matching goes: images are prepared once, and each thread has a pair (`samfeat_hloc.matchers.schedule`)."""
    threads = torch.get_num_threads()
    workers = min(threads, MAX_WORKERS)
    first, other = (matcher.prepare(each) for each in features)

    def match_on_each(pool: ThreadPoolExecutor) -> None:
        list(pool.map(lambda _: matcher.match_many(first, [other]), range(workers)))

    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            match_on_each(pool)  # the first calls allocate
            return _seconds(lambda: match_on_each(pool)) / workers
    finally:
        torch.set_num_threads(threads)


def _random_features(rng: np.random.Generator, count: int) -> Features:
    descriptors: Float32Array = rng.normal(size=(count, 128)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    ones = np.ones(count, np.float32)
    return Features(rng.random((count, 2)).astype(np.float32), descriptors, ones, ones, (1, 1))


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
