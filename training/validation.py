"""Matching accuracy of a network under training, on folders of homography sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.hpatches import read_sequence, read_sequences
from samfeat_hloc.checkpoints import Weights
from samfeat_hloc.extractors.samfeat import SAMFeatConf, SAMFeatExtractor, SAMFeatFeatures
from samfeat_hloc.images import read_image
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.precision import Runtime

THRESHOLD_PX = 3.0
KEYPOINTS = 2048


def matching_accuracy(model: SAMFeat, folders: Sequence[str], runtime: Runtime) -> dict[str, float]:
    """Mean matching accuracy at 3 px over the sequences of all folders, and the mean number of correct matches.

    Mutual nearest neighbours of the best 2048 keypoints, full size (D2-Net's protocol).

    Returns:
        ``mma@3``, ``correct``, and ``mma@3/FOLDER`` for each folder.

    Raises:
        InputError: a folder without sequences.
    """
    precision = str(runtime.dtype).removeprefix("torch.")
    conf = SAMFeatConf(max_keypoints=KEYPOINTS, device=str(runtime.device), precision=precision)  # type: ignore[arg-type]
    weights = Weights(model.state_dict(), model.architecture, {}, "")
    extractor = SAMFeatExtractor(weights, conf)
    result, every, correct = dict[str, float](), list[float](), list[float]()
    for folder in folders:
        alone = (Path(folder) / "H_1_2").exists()
        sequences = [read_sequence(folder)] if alone else read_sequences(folder)
        scores = []
        for sequence in sequences:
            features = [extractor(_image(path))[0] for path in sequence.images]
            hits = [
                _correct(features[0], other, torch.from_numpy(homography).float().to(runtime.device))
                for other, homography in zip(features[1:], sequence.homographies, strict=True)
            ]
            scores.append(float(np.mean([share for share, _ in hits])))
            correct.append(float(np.mean([count for _, count in hits])))
        result[f"mma@3/{Path(folder).name}"] = float(np.mean(scores))
        every += scores
    return {"mma@3": float(np.mean(every)), "correct": float(np.mean(correct)), **result}


def _image(path: Path) -> Tensor:
    pixels = torch.from_numpy(read_image(path)[0].copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


def _correct(first: SAMFeatFeatures, second: SAMFeatFeatures, second_from_first: Tensor) -> tuple[float, float]:
    """Share and number of the mutual nearest neighbours that are right."""
    if not first.n or not second.n:
        return 0.0, 0.0
    similarity = first.descriptors @ second.descriptors.T
    forward, backward = similarity.argmax(dim=1), similarity.argmax(dim=0)
    mine = torch.arange(first.n, device=forward.device)
    mutual = backward[forward] == mine
    points = torch.nn.functional.pad(first.keypoints[mutual], (0, 1), value=1.0) @ second_from_first.T
    errors = (points[:, :2] / points[:, 2:] - second.keypoints[forward[mutual]]).norm(dim=1)
    right = errors <= THRESHOLD_PX
    return (float(right.float().mean()) if len(right) else 0.0), float(right.sum())
