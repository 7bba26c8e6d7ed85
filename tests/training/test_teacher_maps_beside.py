"""Teachers that read maps beside the photographs: the hierarchy's cosines, groups, edges, bad maps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from samfeat_hloc.errors import InputError
from samfeat_hloc.images import read_image
from training.teachers.hierarchy import Hierarchy
from training.teachers.labels import at_cell_centres, cell_grid, label_edges
from training.teachers.rendered import RenderedTeacher, instance_embedding
from training.teachers.segmentation import SegmentationTeacher, hierarchy_embedding

PHOTO = np.zeros((48, 64, 3), dtype=np.uint8)


def draw_ucm() -> npt.NDArray[np.uint8]:
    """A quadrant, a half with a spiral of weak lines, and a diagonal line one pixel wide."""
    ucm = np.zeros((48, 64), dtype=np.uint8)
    ucm[:, 31] = 200
    ucm[24, :31] = 90
    ucm[6:18, 40] = 30
    ucm[6, 40:56] = 30
    ucm[18, 40:56] = 30
    ucm[6:19, 56] = 60
    for step in range(16):
        ucm[25 + step, 31 - step] = max(ucm[25 + step, 31 - step], 40)
    ucm[12, 30] = 7  # an end that separates nothing
    return ucm


def random_ucm(seed: int) -> npt.NDArray[np.uint8]:
    """Regions around random points, with boundaries of random strengths that close no hierarchy by themselves."""
    random = np.random.default_rng(seed)
    sites = random.uniform(0, 1, (40, 2)) * (48, 64)
    y, x = np.mgrid[:48, :64]
    nearest = ((y[..., None] - sites[:, 0]) ** 2 + (x[..., None] - sites[:, 1]) ** 2).argmin(axis=2)
    strength = random.choice([5, 5, 20, 80, 130, 255], (40, 40))
    strength = np.maximum(strength, strength.T)
    ucm = np.zeros((48, 64), dtype=np.uint8)
    across = nearest[:, 1:] != nearest[:, :-1]
    down = nearest[1:] != nearest[:-1]
    ucm[:, :-1][across] = strength[nearest[:, 1:], nearest[:, :-1]][across]
    ucm[:-1][down] = np.maximum(ucm[:-1], strength[nearest[1:], nearest[:-1]])[down]
    return ucm


def thresholded_similarity(ucm: npt.NDArray[np.uint8], pixels: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """1 - (the lowest u at which two pixels lie in one component of ucm <= u) / 255, by trying every u."""
    similarity = np.full((len(pixels), len(pixels)), -1.0)
    for u in range(256):
        labels = cv2.connectedComponents((ucm <= u).astype(np.uint8), connectivity=4)[1][pixels[:, 0], pixels[:, 1]]
        together = (labels[:, None] == labels[None]) & (labels[:, None] > 0) & (similarity < 0)
        similarity[together] = 1 - u / 255
    return similarity


def cosines(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=0)
    return unit.T @ unit


def centre_pixels(height: int, width: int) -> npt.NDArray[np.intp]:
    rows, columns = cell_grid(height, width)
    index = np.arange(height * width).reshape(height, width)
    return np.stack(np.unravel_index(at_cell_centres(index, rows, columns).ravel(), (height, width)), axis=1)


@pytest.mark.parametrize("ucm", [draw_ucm(), random_ucm(0), random_ucm(1)], ids=["drawn", "random", "random2"])
def test_cosines_are_the_similarities_of_thresholded_components(ucm: npt.NDArray[np.uint8]) -> None:
    embedding = hierarchy_embedding(ucm)
    assert embedding.shape == (256, 48, 64) and embedding.dtype == np.float16
    pixels = centre_pixels(*ucm.shape)
    inside = ucm[pixels[:, 0], pixels[:, 1]] == 0
    expected = thresholded_similarity(ucm, pixels[inside])
    assert len(np.unique(expected)) >= 4
    found = cosines(embedding.reshape(256, -1)[:, inside])
    np.testing.assert_allclose(found, expected, atol=1e-3)  # float16 coordinates
    np.testing.assert_allclose(np.linalg.norm(embedding.astype(np.float64), axis=0), 1, atol=1e-3)


def test_line_pixels_belong_to_the_nearest_region() -> None:
    ucm = np.zeros((40, 64), dtype=np.uint8)
    ucm[:, 20:23] = 120
    relation = cosines(hierarchy_embedding(ucm)[:, 10])
    assert relation[20, 0] > 0.999 and relation[22, 60] > 0.999
    np.testing.assert_allclose(relation[20, 22], 1 - 120 / 255, atol=1e-3)


def test_a_map_without_boundaries_is_one_region() -> None:
    assert cosines(hierarchy_embedding(np.zeros((20, 30), np.uint8)).reshape(256, -1)).min() > 0.999
    assert cosines(hierarchy_embedding(np.full((20, 30), 9, np.uint8)).reshape(256, -1)).min() > 0.999


def test_a_tree_that_does_not_fit_loses_its_weakest_boundaries_alone() -> None:
    hierarchy = Hierarchy.of(random_ucm(2), 48, 64)
    exact, dropped = hierarchy.coordinates(256)
    assert dropped == 0
    similarity = hierarchy.similarities()
    np.testing.assert_allclose(exact @ exact.T, similarity, atol=1e-9)
    cut, dropped = hierarchy.coordinates(12)
    assert cut.shape[1] == 12 and dropped in (5, 20, 80, 130)
    kept = similarity < 1 - dropped / 255
    np.testing.assert_allclose(cut @ cut.T, np.where(kept, similarity, 1), atol=1e-9)
    weaker = hierarchy.strengths[np.searchsorted(hierarchy.strengths, dropped) - 1]
    assert len(np.unique(hierarchy.regions[hierarchy.strengths == weaker])) > 1  # it did not drop more than it had to


def test_the_tree_has_no_more_coordinates_than_it_needs() -> None:
    ucm = np.zeros((48, 64), dtype=np.uint8)
    for strength, needed in ((100, 3), (255, 2)):  # two regions, and their union where it tells anything
        ucm[:, 30] = strength
        hierarchy = Hierarchy.of(ucm, 48, 64)
        assert hierarchy.coordinates(needed)[1] == 0
        assert hierarchy.coordinates(needed - 1)[1] == strength


def test_a_real_photograph(shared_data: Path) -> None:
    path = shared_data / "bsds" / "100007.webp"
    image, _ = read_image(path)
    row = SegmentationTeacher().row(path, image)
    assert row is not None and row.embedding is not None and row.groups is not None and row.edges is not None
    assert row.embedding.shape == (256, 43, 64) and row.extent is None
    assert row.groups.shape == row.edges.shape == image.shape[:2] and row.groups.min() == 1
    ucm = cv2.imread(str(path.with_name("100007_ucm.png")), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(row.edges, ucm)
    hierarchy = Hierarchy.of(ucm, 43, 64)
    dropped = hierarchy.coordinates(256)[1]
    pixels = centre_pixels(*ucm.shape)
    inside = ucm[pixels[:, 0], pixels[:, 1]] == 0
    expected = thresholded_similarity(ucm, pixels[inside])
    difference = cosines(row.embedding.reshape(256, -1)[:, inside]) - expected
    assert 0 < dropped < 40
    assert difference.max() <= dropped / 255 + 1e-3 and difference.min() >= -1e-3
    assert np.abs(difference[expected < 1 - dropped / 255]).max() <= 1e-3
    assert np.abs(difference).mean() < 0.02


def write_maps(folder: Path, groups: npt.NDArray[np.integer] | None, ucm: npt.NDArray[np.integer] | None) -> Path:
    for array, suffix in ((groups, "groups"), (ucm, "ucm")):
        if array is not None:
            cv2.imwrite(str(folder / f"one_{suffix}.png"), array)
    return folder / "one.webp"


def test_label_zero_of_a_file_is_a_group(tmp_path: Path) -> None:
    groups = np.zeros((48, 64), dtype=np.uint8)
    groups[:, 10:20], groups[:, 20:] = 3, 250
    row = SegmentationTeacher().row(write_maps(tmp_path, groups, None), PHOTO)
    assert row is not None and row.embedding is None and row.edges is None and row.groups is not None
    assert row.groups.dtype == np.int16
    assert [int(row.groups[0, x]) for x in (0, 10, 20)] == [1, 2, 3]


def test_no_map_is_no_row(tmp_path: Path) -> None:
    assert SegmentationTeacher().row(tmp_path / "one.webp", PHOTO) is None
    assert RenderedTeacher().row(tmp_path / "one.color.png", PHOTO) is None


def test_maps_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    small = np.ones((48, 63), dtype=np.uint8)
    with pytest.raises(InputError, match=r"one_groups\.png has 63x48 pixels and its photograph 64x48"):
        SegmentationTeacher().row(write_maps(tmp_path, small, None), PHOTO)
    cv2.imwrite(str(tmp_path / "one_groups.png"), PHOTO)
    with pytest.raises(InputError, match="one integer per pixel"):
        SegmentationTeacher().row(tmp_path / "one.webp", PHOTO)
    (tmp_path / "one_groups.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"one_groups\.png cannot be read"):
        SegmentationTeacher().row(tmp_path / "one.webp", PHOTO)
    cv2.imwrite(str(tmp_path / "one.instances.png"), small.astype(np.uint16))
    with pytest.raises(InputError, match=r"one\.instances\.png has 63x48"):
        RenderedTeacher().row(tmp_path / "one.color.jpg", PHOTO)


def test_rendered_instances(tmp_path: Path) -> None:
    mask = np.zeros((48, 64), dtype=np.uint16)
    mask[20:, :30], mask[20:, 30:] = 40_000, 7
    cv2.imwrite(str(tmp_path / "one.instances.png"), mask)
    row = RenderedTeacher().row(tmp_path / "one.color.jpg", PHOTO)
    assert row is not None and row.embedding is not None and row.groups is not None and row.edges is not None
    assert [int(row.groups[y, x]) for y, x in ((0, 0), (40, 40), (40, 5))] == [1, 2, 3]  # sky, 7, 40000
    relation = cosines(row.embedding.reshape(256, -1))
    groups = at_cell_centres(row.groups, 48, 64).ravel()
    np.testing.assert_array_equal(relation, groups[:, None] == groups[None])
    lines = np.zeros((48, 64), dtype=bool)
    lines[19:21], lines[20:, 29:31] = True, True
    np.testing.assert_array_equal(row.edges, np.where(lines, 255, 0))


def test_more_than_256_instances_keep_the_largest_apart() -> None:
    groups = np.repeat(np.repeat(np.arange(1, 401).reshape(20, 20), 4, axis=0), 4, axis=1)
    groups[:4, :8] = 1  # twice as large as the others; number 2 is gone
    groups[4:6, :4] = 22  # 21 is half as large as the others
    embedding = instance_embedding(groups)
    assert embedding.shape == (256, 64, 64)
    cells = at_cell_centres(groups, 64, 64)
    channel = embedding.argmax(axis=0)
    assert (embedding.sum(axis=0) == 1).all()
    sharing = np.unique(cells[channel == 255])
    assert len(sharing) == 399 - 255 and 21 in sharing and 1 not in sharing and 22 not in sharing
    assert all(len(np.unique(cells[channel == c])) == 1 for c in range(255))


def test_edges_lie_on_both_sides_of_a_boundary_and_not_on_the_border() -> None:
    labels = np.zeros((5, 6), dtype=np.int32)
    labels[2:, 3:] = 1
    expected = np.zeros((5, 6), dtype=bool)
    expected[1:3, 3:], expected[2:, 2:4] = True, True
    np.testing.assert_array_equal(label_edges(labels), expected)
