"""SAM as a teacher, for real: its own classes, its own automatic mask generator, random weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

pytest.importorskip("segment_anything")

from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError
from tests.training.small_sam import CHANNELS, GRID, SIDE, small_sam
from training.teacher import MaskSettings, SamTeacher, main
from training.teachers.masks import paint_masks
from training.teachers.store import StoredTeacher

EVERY_MASK = MaskSettings(points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)


def photo(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    return (128 + 300 * cv2.GaussianBlur(noise, (0, 0), 3)).clip(0, 255).astype(np.uint8)


def count_encoder_runs(sam: Any) -> list[torch.Size]:
    runs: list[torch.Size] = []
    sam.image_encoder.register_forward_hook(lambda module, inputs, output: runs.append(inputs[0].shape))
    return runs


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(128, 128, 8.0, 8.0), (60, 100, 4.8125, 8.0), (300, 200, 8.0, 5.3125), (64, 90, 5.6875, 8.0)],
)
def test_the_embedding_is_the_encoders_without_the_padding(
    height: int, width: int, rows: float, columns: float
) -> None:
    from torchvision.transforms.functional import resize, to_pil_image

    sam: Any = small_sam()
    runs = count_encoder_runs(sam)
    image = photo(height, width)
    row = SamTeacher(sam, masks=EVERY_MASK, device="cpu").row(Path("a.jpg"), image)
    assert len(runs) == 1
    assert row.embedding is not None and row.embedding.dtype == np.float16
    assert row.extent == (columns, rows)
    assert row.embedding.shape == (CHANNELS, int(np.ceil(rows)), int(np.ceil(columns)))

    seen = np.array(resize(to_pil_image(image), [int(rows * SIDE / GRID), int(columns * SIDE / GRID)]))
    padded = torch.zeros(1, 3, SIDE, SIDE)
    mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    normal = (torch.from_numpy(seen).float() - mean) / deviation
    padded[0, :, : seen.shape[0], : seen.shape[1]] = normal.permute(2, 0, 1)
    with torch.no_grad():
        whole = sam.image_encoder(padded)[0].numpy()
    expected = whole[:, : row.embedding.shape[1], : row.embedding.shape[2]]
    np.testing.assert_allclose(row.embedding, expected, atol=2e-3)


def test_groups_and_edges_are_those_of_the_generators_masks() -> None:
    from segment_anything import SamAutomaticMaskGenerator

    sam, image = small_sam(1), photo(60, 100)
    row = SamTeacher(sam, masks=EVERY_MASK, device="cpu").row(Path("a.jpg"), image)
    masks = SamAutomaticMaskGenerator(
        sam, points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0
    ).generate(image)
    assert len(masks) > 3
    assert row.groups is not None and row.groups.shape == (60, 100) and row.groups.dtype == np.int16
    by_area = sorted((mask["segmentation"] for mask in masks), key=lambda mask: -int(mask.sum()))
    stack = np.concatenate([np.ones((1, 60, 100), bool), np.stack(by_area)])
    smallest = len(stack) - 1 - stack[::-1].argmax(axis=0)
    np.testing.assert_array_equal(row.groups, smallest)
    assert row.edges is not None and set(np.unique(row.edges)) == {0, 255}
    y, x = np.argwhere(row.edges == 255).T
    assert all(_on_an_outline(by_area, *place) for place in zip(y, x, strict=True))
    y, x = np.argwhere(row.edges == 0).T
    assert not any(_on_an_outline(by_area, *place) for place in zip(y, x, strict=True))


def _on_an_outline(masks: list[npt.NDArray[np.bool_]], y: int, x: int) -> bool:
    return any(
        mask[y, x] != mask[y + dy, x + dx]
        for mask in masks
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))
        if 0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1]
    )


def test_a_large_image_is_taught_at_sams_own_size() -> None:
    row = SamTeacher(small_sam(), masks=EVERY_MASK, device="cpu").row(Path("a.jpg"), photo(300, 400))
    assert row.groups is not None and row.groups.shape == (96, 128) and row.extent == (8.0, 6.0)


def test_an_image_without_masks_is_uncovered() -> None:
    none = MaskSettings(points_per_side=2, pred_iou_thresh=1e6)
    row = SamTeacher(small_sam(), masks=none, device="cpu").row(Path("a.jpg"), photo(60, 100))
    assert row.groups is not None and row.edges is not None and row.embedding is not None
    assert not row.groups.any() and not row.edges.any() and row.groups.shape == (60, 100)


def test_small_masks_lie_on_top_and_outlines_below_them_count() -> None:
    masks = np.zeros((3, 20, 20), dtype=bool)
    masks[0, 5:8, 5:8] = True  # given first, smallest
    masks[1, 2:18, 2:18] = True  # largest
    masks[2, 4:10, 4:16] = True  # between, around the small one
    groups, edges = paint_masks(3, [9, 256, 72], lambda index: masks[index], 20, 20)
    assert [int(groups[y, x]) for y, x in ((0, 0), (3, 3), (4, 4), (6, 6))] == [0, 1, 2, 3]
    assert edges[2, 9] == edges[1, 9] == edges[4, 9] == edges[5, 6] == 255
    assert edges[6, 6] == edges[13, 9] == 0
    cover = np.stack([masks[1], masks[1]])  # the second covers the first whole: its outline is still there once
    groups, edges = paint_masks(2, [256, 256], lambda index: cover[index], 20, 20)
    assert set(np.unique(groups)) == {0, 2} and edges[2, 9] == 255


def test_the_signature_tells_weights_and_settings_apart() -> None:
    base = SamTeacher(small_sam(), masks=EVERY_MASK, device="cpu").signature
    assert base == SamTeacher(small_sam(), masks=EVERY_MASK, device="cpu").signature
    assert base != SamTeacher(small_sam(1), masks=EVERY_MASK, device="cpu").signature
    assert base != SamTeacher(small_sam(), masks=MaskSettings(), device="cpu").signature
    assert base["kind"] == "sam" and base["points_per_side"] == 3


def checkpoint_like(path: Path, channels: int, keys: tuple[str, ...] = ()) -> Path:
    weights = {"image_encoder.pos_embed": torch.zeros(1, 2, 2, channels)} | {key: torch.zeros(1) for key in keys}
    torch.save(weights, path)
    return path


def test_wrong_checkpoints_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pth does not exist"):
        SamTeacher(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match=r"text\.pth is no SAM checkpoint"):
        SamTeacher(tmp_path / "text.pth")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth is no SAM checkpoint"):
        SamTeacher(tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"holds vit_l and not vit_b; give its own type with --model") as caught:
        SamTeacher(checkpoint_like(tmp_path / "large.pth", 1024), "vit_b")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="model is 'vit_x'; expected one of vit_h, vit_l, vit_b"):
        SamTeacher(tmp_path / "large.pth", "vit_x")
    with pytest.raises(ConfigError, match="points_per_side is 0"):
        MaskSettings(points_per_side=0)


def test_a_checkpoint_goes_through_its_own_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's builder is replaced by the small model's: an official one would take gigabytes."""
    import segment_anything

    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", lambda: small_sam(9))
    monkeypatch.setattr("training.teacher.WIDTHS", {32: "vit_b"})
    torch.save(small_sam(4).state_dict(), tmp_path / "sam.pth")
    teacher = SamTeacher(tmp_path / "sam.pth", "vit_b", EVERY_MASK, "cpu")
    expected = SamTeacher(small_sam(4), masks=EVERY_MASK, device="cpu")
    image = photo(60, 100)
    np.testing.assert_array_equal(teacher.row(Path("a"), image).embedding, expected.row(Path("a"), image).embedding)
    assert teacher.signature["model"] == "vit_b" and len(teacher.signature["weights_sha256"]) == 64
    with pytest.raises(InputError, match="no official vit_b checkpoint"):
        SamTeacher(checkpoint_like(tmp_path / "torn.pth", 32, ("mask_decoder.x",)), "vit_b", EVERY_MASK, "cpu")

    cv2.imwrite(str(tmp_path / "photos.png"), image)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.png").rename(tmp_path / "photos" / "one.png")
    folders = ["--images", str(tmp_path / "photos"), "--output", str(tmp_path / "store")]
    weights = ["--checkpoint", str(tmp_path / "sam.pth"), "--model", "vit_b"]
    main([*folders, *weights, "--points-per-side", "2", "--device", "cpu"])
    stored = StoredTeacher(tmp_path / "store")
    assert stored.signature["points_per_side"] == 2 and len(stored) == 1
    row = stored.row(tmp_path / "photos" / "one.png", image)
    assert row is not None and row.embedding is not None
    np.testing.assert_array_equal(row.embedding, teacher.row(Path("a"), image[:, :, ::-1]).embedding)


def test_without_segment_anything_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = small_sam()
    for name in [name for name in sys.modules if name.split(".")[0] == "segment_anything"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'samfeat-hloc\[sam\]'"):
        SamTeacher(sam)


def test_the_command_line_wants_what_each_kind_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs --checkpoint"):
        main(["--images", str(tmp_path), "--output", str(tmp_path / "store")])
    with pytest.raises(ConfigError, match="leave --checkpoint away"):
        main(["--images", "a", "--output", "b", "--kind", "rendered", "--checkpoint", "c"])
