"""What a run localizes: the dataset's photographs, reference model and queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.aachen import database_images, queries_by_condition, reference_model
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.poses import Poses
from samfeat_hloc.formats.queries import Query
from samfeat_hloc.layout import AachenLayout


@dataclass(frozen=True)
class World:
    """A dataset, opened and checked.

    Attributes:
        layout: where its parts lie.
        reference: folder of the COLMAP reference model.
        model: that model.
        database: names of its images.
        conditions: names of the day and night queries.
        queries: all of them with their intrinsics.
        truth: their true poses; empty when there is none.
    """

    layout: AachenLayout
    reference: Path
    model: pycolmap.Reconstruction
    database: list[str]
    conditions: dict[str, list[str]]
    queries: list[Query]
    truth: Poses

    @classmethod
    def open(cls, dataset: Path, outputs: Path, conditions: tuple[str, ...]) -> World:
        """Open a dataset for queries of some conditions.

        Raises:
            InputError: a part is missing or damaged, or there is no such query.
        """
        layout = AachenLayout.find(dataset)
        reference = reference_model(layout, outputs / "reference_model")
        model = read_model(reference)
        by_condition = {key: names for key, names in queries_by_condition(layout).items() if key in conditions}
        if not by_condition:
            raise InputError(f"{dataset} has no {' or '.join(conditions)} queries; expected a list in queries/")
        queries = [query for key in by_condition for query in layout.queries(key)]
        truth = {name: pose for name, pose in layout.true_poses().items() if name in {q.name for q in queries}}
        missing = [query.name for query in queries if query.name not in truth]
        if truth and missing:
            raise InputError(
                f"{layout.ground_truth} has no pose of {len(missing)} queries, first {missing[0]}; expected all or none"
            )
        return cls(layout, reference, model, database_images(model, layout), by_condition, queries, truth)

    @property
    def image_names(self) -> list[str]:
        """Names of all photographs the run reads, database first."""
        return [*self.database, *(query.name for query in self.queries)]

    @property
    def has_points(self) -> bool:
        """Whether the reference model has 3D points, so that covisibility is known."""
        return self.model.num_points3D() > 0
