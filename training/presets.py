"""Training runs by name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from samfeat_hloc.config import from_dict
from samfeat_hloc.errors import ConfigError
from samfeat_hloc.model import Architecture
from training.config import HomographyConfig, LossConfig, PhotometricConfig, TrainingConfig
from training.records import SourceConfig

PAPER_SAMPLES, PAPER_BATCH, PAPER_EPOCHS = 23_600, 14, 30


def paper() -> TrainingConfig:
    """The paper's run: MegaDepth, 400 x 400, 14 pairs a batch, Adam 1e-3, weight decay 1e-4, 30 epochs, linear decay.

    Losses as the paper writes them; homographies and the share of synthetic pairs as released. Give its data with
    ``--source kind=megadepth,path=DIR,teacher=STORE``.
    """
    return TrainingConfig(
        architecture=Architecture(attention="released", sampling="released"),
        losses=LossConfig(
            detector="every-scale",
            descriptor="triplet",
            relations="paper",
            groups="paper",
            edges="l1",
            attention="learned",
            safe_radius=16.0,
        ),
        steps=PAPER_SAMPLES * PAPER_EPOCHS // PAPER_BATCH,
        pairs=PAPER_BATCH,
        size=400,
        learning_rate=1e-3,
        final_learning_rate=1e-3 / (PAPER_EPOCHS + 1),
        schedule="linear",
        warmup_steps=0,
        weight_decay=1e-4,
        gradient_clip=float("inf"),
        ema=0.0,
        homography=HomographyConfig(rotation_deg=90.0, scale=2.0, perspective=0.2, identity=0.5),
    )


def photos() -> TrainingConfig:
    """Folders of photographs, on a CPU: the recipe of ``samfeat-photos-1``."""
    return TrainingConfig()


def photos_2() -> TrainingConfig:
    """The recipe of ``samfeat-photos-2``: goes on from the first weights with all losses and ours; docs/weights.md."""
    return TrainingConfig(
        weights="samfeat-photos-1",
        architecture=Architecture(attention="rows", sampling="exact", refinement="soft", phases=4),
        losses=LossConfig(positions="soft-argmax", ranking="matches"),
        steps=1450,
        learning_rate=5e-4,
        warmup_steps=60,
        final_learning_rate=5e-6,
        photometric=PhotometricConfig(strength=1.2, night=0.25),
    )


def photos_3() -> TrainingConfig:
    """The recipe of ``samfeat-photos-3``: photos-2's once more, with surfaces lit by themselves; docs/weights.md."""
    return replace(
        photos_2(),
        weights="samfeat-photos-2",
        photometric=PhotometricConfig(strength=1.2, night=0.25, relight=0.4),
    )


def photos_4() -> TrainingConfig:
    """The recipe of ``samfeat-photos-4``: points that count alike, lie at keypoints the last weights found, and have
    near negatives; docs/weights.md has what it started from."""
    return replace(
        photos_3(),
        weights="samfeat-photos-3",
        losses=replace(photos_2().losses, safe_radius=3.0, points="even"),
        points=500,
        points_at="keypoints",
        labeller="samfeat-photos-3",
        label_radius=3,
        steps=500,
        learning_rate=4e-4,
        warmup_steps=20,
        photometric=PhotometricConfig(strength=1.2, night=0.25, relight=0.3),
    )


def photos_5() -> TrainingConfig:
    """The recipe of ``samfeat-photos-5``: photos-4's for longer, with keypoint targets that photos-4 found; its weights
    are then whitened (`training.whiten`); docs/weights.md has what it started from."""
    return replace(photos_4(), weights="samfeat-photos-4", labeller="samfeat-photos-4", steps=1200, seed=4)


def photos_10() -> TrainingConfig:
    """The recipe of ``samfeat-photos-10``: what samfeat-photos-6 says of pixels and points through mirrored and resized
    looks is taught to one pass; a tenth of samfeat-photos-6 stays in what is written."""
    return replace(
        photos_5(),
        weights="samfeat-photos-6",
        losses=replace(
            photos_5().losses, detector="distilled", detector_weight=50.0, positions="off", imitation="labeller",
            imitation_weight=20.0,
        ),
        labeller="samfeat-photos-6",
        steps=520,
        learning_rate=2e-4,
        ema=0.99,
        start_share=0.1,
        seed=12,
    )  # fmt: skip


def town() -> TrainingConfig:
    """A rendered town alone, with exact depth and instance masks: no data to download."""
    source = SourceConfig("town", "outputs/town-1000", teacher="rendered")
    return TrainingConfig(sources=(source,), output="outputs/training-town")


def smoke() -> TrainingConfig:
    """A minute on a CPU: does everything work? The weights are of no use."""
    source = SourceConfig("town", "outputs/town-smoke", teacher="rendered", limit=4)
    return TrainingConfig(
        sources=(source,),
        output="outputs/training-smoke",
        steps=10,
        pairs=2,
        size=96,
        points=100,
        warmup_steps=2,
        log_every=1,
    )


PRESETS: dict[str, Callable[[], TrainingConfig]] = {
    "paper": paper,
    "photos": photos,
    "photos-2": photos_2,
    "photos-3": photos_3,
    "photos-4": photos_4,
    "photos-5": photos_5,
    "photos-10": photos_10,
    "town": town,
    "smoke": smoke,
}


def read_config(name: str) -> TrainingConfig:
    """A preset by name, or a JSON file with TrainingConfig's fields; its ``preset`` names what the others change.

    Raises:
        ConfigError: neither, or an unknown or bad field.
    """
    if name in PRESETS:
        return PRESETS[name]()
    path = Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"there is no preset and no file called {name}; presets: {', '.join(PRESETS)}{hint}")
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not JSON ({error}); expected an object with TrainingConfig's fields") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; expected an object with TrainingConfig's fields")
    base = values.pop("preset", None)
    if base is not None and base not in PRESETS:
        raise ConfigError(f"{path} names the preset {base!r}; expected one of {', '.join(PRESETS)}")
    return merged(PRESETS[base]() if base else TrainingConfig(), values)


def merged(config: TrainingConfig, values: dict[str, object]) -> TrainingConfig:
    """The configuration with fields replaced; a nested object replaces the fields it names."""
    from samfeat_hloc.config import to_dict

    whole = to_dict(config)
    for key, value in values.items():
        nested = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = {**whole[key], **value} if nested else value  # type: ignore[dict-item]
    return from_dict(TrainingConfig, whole)
