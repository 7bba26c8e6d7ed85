"""MegaDepth (datasets/megadepth.py): internet photographs with depth and poses, paired by the depth they share."""

from __future__ import annotations

from collections.abc import Iterator

from datasets.megadepth import PosedImage, list_images, list_workspaces, read_depth
from datasets.rgbd import DepthSizeError, check_shape
from samfeat_hloc.errors import InputError
from training.records import Pair, Skipped, SourceConfig, View
from training.sources.covisible import DepthView
from training.sources.depth import DepthPairs, grid_matrix
from training.sources.views import ViewMaker, check_folder, guard_empty


class MegaDepthSource:
    """All scenes of one download. The overlap of a pair is measured by its depth maps, within one reconstruction.

    `limit` pairs are shared out among the reconstructions in proportion to their photographs.

    Raises:
        InputError: no such folder, no depth map or no model in it; later, no usable view or no usable pair.
        MissingDependencyError: pycolmap is not installed.
    """

    def __init__(self, config: SourceConfig) -> None:
        self.config, self.skipped = config, Skipped()
        self._workspaces = list_workspaces(check_folder(config))
        self.num_files = sum(1 for workspace in self._workspaces for _ in workspace.depths.glob("*.h5"))

    def views(self) -> Iterator[View]:
        """All photographs whose camera, depth map and size can be used."""
        return guard_empty(self._views(), self.config, self.skipped, "photographs with pinhole cameras and depth maps")

    def _views(self) -> Iterator[View]:
        self._maker = ViewMaker(self.config, self.skipped)
        self._images: dict[str, PosedImage] = {}
        self._pairs = DepthPairs(self.config, self.skipped, lambda name: self._geometry(self._images[name]))
        for workspace in self._workspaces:
            for image in list_images(workspace):
                view = None
                if image.matrix is None:
                    self.skipped.count("camera with a lens")
                else:
                    view = self._maker.make(image.name, image.path)
                if view is None:
                    continue
                try:
                    geometry = self._geometry(image)
                except DepthSizeError:
                    self.skipped.count("depth map of another size")
                except InputError:
                    self.skipped.count("unusable depth map")
                else:
                    self._images[image.name] = image
                    self._pairs.add(image.name, geometry, workspace.name)
                    yield view
        self._maker.close()

    def _geometry(self, image: PosedImage) -> DepthView:
        depth = read_depth(image.depth)
        depth_size = (depth.shape[1], depth.shape[0])
        size = self._maker.placements[image.name].stored
        check_shape(image.depth, depth_size, size)
        check_shape(image.path, size, image.camera_size)
        assert image.matrix is not None
        return DepthView(depth, grid_matrix(image.matrix, image.camera_size, depth_size), image.world_from_cam)

    @property
    def num_pairs(self) -> int:
        """How many pairs will be tried; when all views were given."""
        return len(self._pairs.chosen)

    def pairs(self) -> Iterator[Pair]:
        """Pairs of photographs of one reconstruction that overlap as much as the configuration wants."""
        return self._pairs.pairs(self._maker.placements)
