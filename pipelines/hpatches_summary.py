"""From the pairs of many sequences to the figures of a set, with how far they would move on other sequences.

Two means are in use and differ where sequences have different numbers of pairs: D2-Net's over all pairs, and the mean
over the sequences' own means. Both are computed. The intervals are bootstrap percentiles (95 %) over sequences, the
unit that is drawn: pairs of one sequence share an image and are no independent evidence. Of a handful of sequences an
interval says little more than how far they lie apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.hpatches_protocol import CORNER_THRESHOLDS, THRESHOLDS, PairResult, SequenceResult

FloatArray = npt.NDArray[np.float64]
RESAMPLES = 2000
SEED = 0
SETS: Mapping[str, str] = {"overall": "", "illumination": "i_", "viewpoint": "v_"}
"""Name of a set -> how its sequences' names begin."""
AUC_COUNT = 5
"""AUC@5 is the mean of the matching accuracy at 1, 2, 3, 4 and 5 pixels."""


def summarize(results: Sequence[SequenceResult]) -> dict[str, Any]:
    """Figures of all sequences, of those of illumination (`i_`) and of those of viewpoint (`v_`).

    Returns:
        set -> {"sequences", "pairs", "over_pairs", "over_sequences"}; the latter two are figures: "mma" (at
        `THRESHOLDS`), "auc5", "homography" (at `CORNER_THRESHOLDS`), "matches", "correct" and "keypoints", and
        "interval95", the same names with [low, high] in place of each number; None for a single sequence. A set
        without sequences is left out.
    """
    sets = {}
    for name, start in SETS.items():
        chosen = [result for result in results if result.name.startswith(start)]
        if chosen:
            sets[name] = _of_set(chosen)
    return sets


def pair_counts_differ(results: Sequence[SequenceResult]) -> bool:
    """Whether the two means differ."""
    return len({len(result.pairs) for result in results}) > 1


def sequence_rows(results: Sequence[SequenceResult]) -> list[dict[str, Any]]:
    """Figures of every sequence, and its pairs' matches, correct matches and corner errors, for the JSON file."""
    rows = []
    for result in results:
        errors = [pair.corner_error for pair in result.pairs]
        figures = _figures(_means(result), _keypoints([result])[0])
        rows.append(
            {
                "name": result.name,
                "pairs": len(result.pairs),
                **figures,
                "pair_matches": [pair.matches for pair in result.pairs],
                "pair_correct": [pair.correct for pair in result.pairs],
                "pair_corner_error": [round(e, 3) if np.isfinite(e) else None for e in errors],
            }
        )
    return rows


def _of_set(results: Sequence[SequenceResult]) -> dict[str, Any]:
    count = len(results)
    pairs = np.array([len(result.pairs) for result in results], np.float64)
    images = np.array([len(result.keypoints) for result in results], np.float64)
    means = np.stack([_means(result) for result in results])  # (S, C)
    keypoints = _keypoints(results)
    draws = np.random.default_rng(SEED).integers(0, count, (RESAMPLES, count))
    summary: dict[str, Any] = {"sequences": count, "pairs": int(pairs.sum())}
    for name, weights, image_weights in (
        ("over_pairs", pairs, images),
        ("over_sequences", np.ones(count), np.ones(count)),
    ):
        figures = _figures(_weighted(means, weights), float(_weighted(keypoints[:, None], image_weights)[0]))
        summary[name] = {**figures, "interval95": None}
        if count > 1:
            drawn = weights[draws][..., None]  # (B, S, 1)
            samples = (means[draws] * drawn).sum(axis=1) / drawn.sum(axis=1)
            image_drawn = image_weights[draws]
            keypoint_samples = (keypoints[draws] * image_drawn).sum(axis=1) / image_drawn.sum(axis=1)
            low, high = np.percentile(samples, [2.5, 97.5], axis=0)
            low_k, high_k = np.percentile(keypoint_samples, [2.5, 97.5])
            ends = _figures(low, float(low_k)), _figures(high, float(high_k))
            summary[name]["interval95"] = {key: _paired(ends[0][key], ends[1][key]) for key in ends[0]}
    return summary


def _columns(pair: PairResult) -> list[float]:
    """What is averaged: accuracies, AUC@5, homographies within each threshold, matches, correct matches."""
    auc = float(np.mean(pair.accuracy[:AUC_COUNT]))
    right = [float(pair.corner_error <= t) for t in CORNER_THRESHOLDS]
    return [*pair.accuracy, auc, *right, float(pair.matches), float(pair.correct)]


def _means(result: SequenceResult) -> FloatArray:
    means: FloatArray = np.mean([_columns(pair) for pair in result.pairs], axis=0)
    return means


def _keypoints(results: Sequence[SequenceResult]) -> FloatArray:
    """(S,) mean number of keypoints of each sequence's images."""
    return np.array([np.mean(result.keypoints) for result in results], np.float64)


def _weighted(values: FloatArray, weights: FloatArray) -> FloatArray:
    total: FloatArray = (values * weights[:, None]).sum(axis=0) / weights.sum()
    return total


def _figures(columns: FloatArray, keypoints: float) -> dict[str, Any]:
    last = len(THRESHOLDS)
    corners = last + 1 + len(CORNER_THRESHOLDS)
    return {
        "mma": _rounded(columns[:last]),
        "auc5": round(float(columns[last]), 6),
        "homography": _rounded(columns[last + 1 : corners]),
        "matches": round(float(columns[corners]), 3),
        "correct": round(float(columns[corners + 1]), 3),
        "keypoints": round(keypoints, 3),
    }


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(value), 6) for value in values]


def _paired(low: Any, high: Any) -> Any:
    return [list(ends) for ends in zip(low, high, strict=True)] if isinstance(low, list) else [low, high]
