"""The rows of the paper's ablation tables, and ours, as changes of one configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from training.config import TrainingConfig

Changes = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: what it says in the first column.
        losses: fields of LossConfig that differ.
        edges_guide: edge attention guidance is in the network.
        share: part of the photographs.
        paper: MMA@3 on HPatches in the paper, in percent; hours in table VIII.
        teachers: which sources keep their teacher, by its name; None: all.
    """

    name: str
    losses: Changes
    edges_guide: bool = True
    share: float = 1.0
    paper: float | None = None
    teachers: tuple[str, ...] | None = None

    def of(self, config: TrainingConfig) -> TrainingConfig:
        """The configuration of this row."""
        attention = config.architecture.attention if self.edges_guide else "off"
        architecture = replace(config.architecture, attention=attention)
        return replace(
            config, losses=replace(config.losses, **self.losses), architecture=architecture, share=self.share
        )


def modules(asrd: bool, eag: bool, wsc: bool, paper: float | None) -> Row:
    """A row of tables IV and VIII."""
    off: Changes = {}
    for name, on in (("relations", asrd), ("edges", eag), ("groups", wsc)):
        if not on:
            off[name] = "off"
    on_names = [name for name, on in (("ASRD", asrd), ("EAG", eag), ("WSC", wsc)) if on]
    return Row(" + ".join(on_names) or "baseline", off, edges_guide=eag, paper=paper)


ASRD_ALONE: Changes = {"edges": "off", "groups": "off"}
NO_TEACHER: Changes = {"relations": "off", "groups": "off", "edges": "off"}
WSC_GRID = (
    (0.0, 1, 80.9), (0.03, 1, 81.2), (0.05, 1, 80.3), (0.07, 1, 81.3), (0.09, 1, 80.8), (0.11, 1, 80.5),
    (0.07, 3, 81.6), (0.07, 5, 82.2), (0.07, 7, 82.0), (0.07, 9, 81.8),
)  # fmt: skip

TABLES: dict[str, tuple[str, list[Row]]] = {
    "IV": (
        "designed modules",
        [
            modules(False, False, False, 75.7),
            modules(True, False, False, 78.6),
            modules(True, True, False, 80.9),
            modules(True, True, True, 82.2),
            modules(True, False, True, 81.2),
            modules(False, True, True, 79.4),
        ],
    ),
    "V": (
        "relations against features",
        [
            Row("DSFD", {"relations": "features", **ASRD_ALONE}, edges_guide=False, paper=76.9),
            Row("ASRD", {**ASRD_ALONE}, edges_guide=False, paper=78.6),
        ],
    ),
    "VI": (
        "margin M and temperature T of WSC",
        [
            Row(f"M {m:g}, T {t}", {"groups_margin": m, "groups_temperature": float(t)}, paper=figure)
            for m, t, figure in WSC_GRID
        ],
    ),
    "VII": (
        "number of photographs",
        [
            Row(f"{share:.0%} of the photographs", {}, share=share, paper=figure)
            for share, figure in ((0.1, None), (0.3, None), (1.0, 82.2))
        ],
    ),
    "VIII": (
        "time of each module; the paper's figures are hours on two RTX 3090",
        [
            modules(False, False, False, 3.6),
            modules(True, False, False, 4.7),
            modules(True, True, False, 5.1),
            modules(True, True, True, 6.0),
        ],
    ),
    "IX": (
        "weight of EAG, without WSC",
        [
            Row(f"EAG {weight:g}", {"groups": "off", "edges_weight": weight}, paper=figure)
            for weight, figure in ((0.5, 80.7), (1.0, 80.9), (1.5, 81.0))
        ],
    ),
    "variants": (
        "forms of each loss; the first row has the defaults, every other changes one",
        [
            Row("defaults", {}),
            Row("relations: unweighted (the release)", {"relations": "unweighted"}),
            Row("relations: features (DSFD)", {"relations": "features"}),
            Row("groups: paper", {"groups": "paper"}),
            Row("groups: released", {"groups": "released"}),
            Row("edges: squared (the release)", {"edges": "squared"}),
            Row("detector: every scale", {"detector": "every-scale"}),
            Row("descriptor: triplet", {"descriptor": "triplet", "safe_radius": 16.0}),
            Row("groups: masked, weight 0.25", {"groups_weight": 0.25}),
        ],
    ),
    "teachers": (
        "who teaches",
        [
            Row("none", {**NO_TEACHER}, teachers=()),
            Row("segmentation", {}, teachers=("segmentation",)),
            Row("rendered", {}, teachers=("rendered",)),
            Row("segmentation and rendered", {}, teachers=("segmentation", "rendered")),
        ],
    ),
}
