"""RGB-D folders (datasets/rgbd.py): views with depth and pose, and pairs of them that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datasets.rgbd import DepthSizeError, Frame, list_frames, read_depth, read_intrinsics, read_pose
from samfeat_hloc.errors import InputError
from samfeat_hloc.images import read_image
from training.records import Image, Pair, Skipped, SourceConfig, View
from training.sources.covisible import DepthView
from training.sources.depth import DepthPairs, grid_matrix
from training.sources.views import ViewMaker, check_folder, guard_empty, reduce_image


class RgbdSource:
    """The frames of one folder.

    Raises:
        InputError: no such folder, no frame or no intrinsics in it; later, no usable view or no usable pair.
    """

    may_be_unregistered = True
    """Depth and colour of a sensor come from two cameras; see training/sources/registration.py."""

    def __init__(self, config: SourceConfig) -> None:
        self.config, self.skipped = config, Skipped()
        self.root: Path = check_folder(config)
        self.matrix = read_intrinsics(self.root)
        self.frames = {frame.name: frame for frame in list_frames(self.root)}
        self.num_files = len(self.frames)

    def views(self) -> Iterator[View]:
        """All frames whose photograph, depth and pose can be used."""
        return guard_empty(self._views(), self.config, self.skipped, "colour, depth and pose of each frame")

    def _views(self) -> Iterator[View]:
        self._maker = ViewMaker(self.config, self.skipped)
        self._pairs = DepthPairs(
            self.config, self.skipped, self._read, self._image if self.may_be_unregistered else None
        )
        for frame in self.frames.values():
            view = self._maker.make(frame.name, frame.colour)
            if view is None:
                continue
            if self._maker.placements[frame.name].orientation != 1:  # whoever turned it, the depth is not turned
                self.skipped.count("photograph turned by its EXIF tag")
                continue
            try:
                geometry = self._geometry(frame)
            except DepthSizeError:
                self.skipped.count("depth map of another size")
            except InputError:
                self.skipped.count("unusable depth or pose")
            else:
                self._pairs.add(frame.name, geometry)
                yield view
        self._maker.close()

    def _read(self, name: str) -> DepthView:
        return self._geometry(self.frames[name])

    def _image(self, name: str) -> Image:
        return reduce_image(read_image(self.frames[name].colour)[0], self.config.max_side)

    def _geometry(self, frame: Frame) -> DepthView:
        size = self._maker.placements[frame.name].stored
        pose = read_pose(frame.pose)
        depth = read_depth(frame.depth, size)
        height, width = depth.shape
        return DepthView(depth, grid_matrix(self.matrix, size, (width, height)), pose)

    @property
    def num_pairs(self) -> int:
        """How many pairs will be tried; when all views were given."""
        return len(self._pairs.chosen)

    def pairs(self) -> Iterator[Pair]:
        """Pairs of frames that overlap as much as the configuration wants."""
        return self._pairs.pairs(self._maker.placements)
