"""A hierarchical segmentation as vectors whose cosines are its similarities.

An ultrametric contour map (Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation") gives each pixel a
boundary strength u in 0..255. Two places i and j are in one region at strength u when a path of 4-neighbours joins them
over pixels of strength at most u. With u(i, j) the smallest such strength, their similarity is

    s(i, j) = 1 - u(i, j) / 255

The regions of all strengths form a tree. The region that appears at strength u has the similarity 1 - u / 255, and the
regions that contain both i and j are those from their smallest common one to the root; so the differences of similarity
between a region and its parent, summed over the regions that contain both, telescope to s(i, j). A place's vector
therefore has one coordinate per region: the square root of that difference where the region contains the place, else 0.
Its length is 1, and the cosine of two vectors is s(i, j) exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import MissingDependencyError
from training.teachers.labels import Labels, at_cell_centres

STRONGEST = 255


@dataclass(frozen=True)
class Hierarchy:
    """The regions of a grid of cells at every strength at which some of them merge.

    Attributes:
        cells: (rows, columns) leaf of each cell: cells of one leaf are separated by no boundary at all.
        strengths: (K,) ascending; the first is 0, before any merge.
        regions: (K, L) region of each of the L leaves at each strength: the number of one of the leaves in it.
    """

    cells: npt.NDArray[np.intp]
    strengths: npt.NDArray[np.int64]
    regions: npt.NDArray[np.intp]

    @classmethod
    def of(cls, ucm: Labels, rows: int, columns: int) -> Hierarchy:
        """The hierarchy of the (rows, columns) cells' centres.

        Args:
            ucm: (H, W) boundary strength, 0 to 255. A cell whose centre is on a boundary line belongs to the nearest
                region.

        Raises:
            MissingDependencyError: OpenCV is not installed.
        """
        interior, nodes = _regions(ucm)
        leaves, cells = np.unique(at_cell_centres(interior, rows, columns), return_inverse=True)
        merges = _merges(nodes, ucm, leaves)
        strengths = np.array([0, *sorted({merge[0] for merge in merges} - {0})])
        regions = np.empty((len(strengths), len(leaves)), dtype=np.intp)
        current = np.arange(len(leaves))
        pending = iter([*merges, (STRONGEST + 1, 0, 0)])
        strength, first, second = next(pending)
        for row, reached in zip(regions, strengths, strict=True):
            while strength <= reached:
                current[current == current[second]] = current[first]
                strength, first, second = next(pending)
            row[:] = current
        return cls(cells.reshape(rows, columns), strengths, regions)

    def similarities(self) -> npt.NDArray[np.float64]:
        """(L, L) similarity s of every two leaves."""
        leaves = self.regions.shape[1]
        apart = np.zeros((leaves, leaves), dtype=np.intp)  # how many strengths keep them apart
        for regions in self.regions:
            apart += regions[:, None] != regions[None, :]
        return 1.0 - self.strengths[apart] / STRONGEST

    def starting_strength(self, channels: int) -> int:
        """The weakest strength from which on the tree has at most `channels` regions that differ from their parents."""
        merged = [len(grown) for grown in self._grown()]
        for start, strength in enumerate(self.strengths):
            count = len(np.unique(self.regions[start])) + sum(merged[start + 1 :])
            if self.strengths[-1] >= STRONGEST and len(self.strengths) > start + 1:
                count -= merged[-1]  # the root has similarity 0 and needs no coordinate
            if count <= channels:
                return int(strength)
        return int(self.strengths[-1])

    def coordinates(self, channels: int) -> tuple[npt.NDArray[np.float64], int]:
        """The leaves' vectors (L, channels), padded with zeros, and the strength up to which boundaries were dropped.

        A tree of more than `channels` regions loses its weakest boundaries: all leaves that merge up to the returned
        strength u become one, so that similarities of at least 1 - u / 255 become 1 and all others stay exact.
        """
        dropped = self.starting_strength(channels)
        start = int(np.searchsorted(self.strengths, dropped))
        similarity = 1.0 - self.strengths / STRONGEST
        similarity[start] = 1.0
        gains = similarity - np.append(similarity[1:], 0.0)
        grown = self._grown()
        region = np.unique(self.regions[start], return_inverse=True)[1]
        count = int(region.max()) + 1
        weights = np.zeros(channels)
        ancestors = []
        for level in range(start, len(self.strengths)):
            if level > start:
                for representative in grown[level]:
                    region = np.where(self.regions[level] == representative, count, region)
                    count += 1
            if similarity[level] > 0:
                weights[np.unique(region)] += gains[level]
                ancestors.append(region)
        vectors = np.zeros((self.regions.shape[1], channels))
        for region in ancestors:
            vectors[np.arange(len(vectors)), region] = np.sqrt(weights[region])
        return vectors, dropped

    def _grown(self) -> list[npt.NDArray[np.intp]]:
        """The regions at each strength that several regions of the strength before became; none at the first."""
        grown = [np.empty(0, dtype=np.intp)]
        for before, after in zip(self.regions[:-1], self.regions[1:], strict=True):
            regions, parts = np.unique(after[np.unique(before)], return_counts=True)
            grown.append(regions[parts > 1])
        return grown


def _regions(ucm: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Region of every pixel (H, W), lines belonging to the nearest; and the same with every line pixel its own node.

    The regions are the 4-connected components of the lowest strength: a line one pixel wide that turns diagonally still
    separates.
    """
    try:
        import cv2
    except ImportError:
        raise MissingDependencyError("regions of a ucm need OpenCV; pip install opencv-python-headless") from None
    inside = ucm == ucm.min()
    count, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    nodes = labels.astype(np.intp) - 1
    line = ~inside
    nodes[line] = np.arange(count - 1, count - 1 + int(line.sum()))
    _, nearest = cv2.distanceTransformWithLabels(
        line.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    region_of = np.zeros(int(nearest.max()) + 1, dtype=np.intp)
    region_of[nearest[inside]] = nodes[inside]
    return region_of[nearest], nodes


def _merges(nodes: npt.NDArray[np.intp], ucm: Labels, leaves: npt.NDArray[Any]) -> list[tuple[int, int, int]]:
    """Kruskal's algorithm over neighbouring nodes: (strength, leaf, leaf) of each merge of leaves, weakest first.

    Nodes that are no leaf (line pixels, regions that hold no cell's centre) conduct, and make no merge of their own.
    """
    pairs = [(nodes[:, 1:], nodes[:, :-1], ucm[:, 1:], ucm[:, :-1]), (nodes[1:], nodes[:-1], ucm[1:], ucm[:-1])]
    first, second, strength = [], [], []
    for node, neighbour, here, there in pairs:
        differ = node != neighbour
        first.append(node[differ])
        second.append(neighbour[differ])
        strength.append(np.maximum(here[differ], there[differ]))
    all_strengths = np.concatenate(strength).astype(np.int64)
    order = np.argsort(all_strengths, kind="stable")
    edges = zip(
        np.concatenate(first)[order].tolist(),
        np.concatenate(second)[order].tolist(),
        all_strengths[order].tolist(),
        strict=True,
    )
    parent = list(range(int(nodes.max()) + 1))
    leaf = [-1] * len(parent)
    for index, node in enumerate(leaves.tolist()):
        leaf[node] = index
    merges: list[tuple[int, int, int]] = []
    for a, b, u in edges:
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        if a == b:
            continue
        parent[b] = a
        if leaf[b] < 0:
            continue
        if leaf[a] < 0:
            leaf[a] = leaf[b]
        else:
            merges.append((u, leaf[a], leaf[b]))
            if len(merges) == len(leaves) - 1:
                break
    return merges
