"""In which order pairs are matched, and several at once: every image read once or rarely, every core busy.

Memory: the prepared descriptors of `PreparedCache`, and those of the calls under way: at most `CALLS_AHEAD` a worker,
each of `MAX_STACKED` images at most and about two on the CPU with 4096 keypoints.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.pairs import Pair
from samfeat_hloc.matchers import Matcher, Matches

MAX_STACKED = 16  # second images of one call
MAX_WORKERS = 16
CALLS_AHEAD = 2


class PreparedCache:
    """Prepared descriptors by file and name; the least recently used are dropped beyond `max_bytes`.

    Attributes:
        reads: how often an image's features were read.
    """

    def __init__(self, matcher: Matcher, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._matcher = matcher
        self._held: OrderedDict[tuple[Path, str], Any] = OrderedDict()
        self._bytes = 0
        self.reads = 0

    def get(self, reader: FeatureReader, name: str) -> Any:
        """The image's descriptors as the matcher wants them."""
        key = (reader.path, name)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        self.reads += 1
        prepared = self._matcher.prepare(reader.read(name))
        self._held[key] = prepared
        self._bytes += prepared.nbytes
        while self._bytes > self.max_bytes and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= dropped.nbytes
        return prepared

    def clear(self) -> None:
        """Drop everything."""
        self._held.clear()
        self._bytes = 0


def order_pairs(
    pairs: Sequence[Pair], reader0: FeatureReader, reader1: FeatureReader, cache: PreparedCache
) -> list[Pair]:
    """The pairs in an order that suits the cache.

    When all images fit, they are grouped by their first image. Else as many first images as fit stay in the cache
    while all their second images pass by: N images in all pairs are read N^2 / 2 / (images that fit) times.
    """
    sizes0 = {name: reader0.num_keypoints(name) for name, _ in pairs}
    sizes1 = {name: reader1.num_keypoints(name) for _, name in pairs}
    sizes = list({**sizes0, **sizes1}.values() if reader0 is reader1 else chain(sizes0.values(), sizes1.values()))
    probe = next((name for name, size in sizes0.items() if size), None)
    if probe is None:
        return list(pairs)
    keypoint_bytes = cache.get(reader0, probe).nbytes / sizes0[probe]
    capacity = int(cache.max_bytes / (max(sizes) * keypoint_bytes))
    resident, passing = len(sizes), len(sizes1)
    if sum(sizes) * keypoint_bytes > cache.max_bytes:
        passing = max(1, min(MAX_STACKED, capacity // 4))
        resident = max(1, capacity - 2 * passing)  # those that pass by, and those that passed by before them
    rank0 = {name: rank for rank, name in enumerate(sizes0)}
    rank1 = {name: rank for rank, name in enumerate(sizes1)}

    def place(pair: Pair) -> tuple[int, int, int, int]:
        first, second = rank0[pair[0]], rank1[pair[1]]
        return first // resident, second // passing, first, second

    return sorted(pairs, key=place)


def match_pairs(
    matcher: Matcher,
    pairs: Iterable[Pair],
    reader0: FeatureReader,
    reader1: FeatureReader,
    cache: PreparedCache,
) -> Iterator[tuple[Pair, Matches]]:
    """Match pairs in their order, consecutive ones with one first image in one call, several calls at once in threads.

    The calling thread reads features and takes the results, while as many workers as torch has threads match, each on
    one core. (Measured with 4096 keypoints: two pairs on a core each take less time than one after the other on both.)

    Yields:
        a pair and its matches, in the given order.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(threads, MAX_WORKERS))
    pool = ThreadPoolExecutor(workers, "match", initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[tuple[list[Pair], Future[list[Matches]]]] = deque()
    torch.set_num_threads(1)  # of this one, which prepares images: torch's would spin on the workers' cores
    try:
        for call, first, others in _calls(matcher, pairs, reader0, reader1, cache):
            waiting.append((call, pool.submit(matcher.match_many, first, others)))
            if len(waiting) >= CALLS_AHEAD * workers:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        while waiting:
            done, future = waiting.popleft()
            yield from zip(done, future.result(), strict=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)  # the workers' 1 would be the default of threads to come


def _calls(
    matcher: Matcher,
    pairs: Iterable[Pair],
    reader0: FeatureReader,
    reader1: FeatureReader,
    cache: PreparedCache,
) -> Iterator[tuple[list[Pair], Any, list[Any]]]:
    """Consecutive pairs of one first image, up to what is worth a call: the pairs and their prepared descriptors."""
    call: list[Pair] = []
    first: Any = None
    others: list[Any] = []
    similarities = 0
    for pair in pairs:
        if call and (pair[0] != call[0][0] or len(call) == MAX_STACKED or similarities >= matcher.call_size):
            yield call, first, others
            call, others, similarities = [], [], 0
        if not call:
            first = cache.get(reader0, pair[0])
        other = cache.get(reader1, pair[1])
        call.append(pair)
        others.append(other)
        similarities += len(first) * len(other)
    if call:
        yield call, first, others
