"""Which camera each photograph gets: from EXIF, guessed, or given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.photos_cameras import choose_cameras
from pipelines.photos_intrinsics import read_given
from pipelines.photos_scan import Photograph, scan_folder
from samfeat_hloc.errors import ConfigError, InputError
from tests.pipelines.photo_folder import save

GREY = np.full((60, 90, 3), 128, np.uint8)


def photographs(**sizes: tuple[int, int]) -> dict[str, Photograph]:
    return {f"{name}.jpg": Photograph(f"{name}.jpg", *size) for name, size in sizes.items()}


def test_cameras_from_exif_are_shared_and_guesses_are_said(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        save(tmp_path / name, GREY, "Phone", focal_35=35)
    save(tmp_path / "3.jpg", GREY, "Phone", focal_35=70)
    save(tmp_path / "4.jpg", GREY)
    kept = scan_folder_all(tmp_path)
    cameras = choose_cameras(tmp_path, kept)
    ids = [cameras.of_image[f"{i}.jpg"].camera_id for i in (1, 2, 3, 4)]
    assert ids[0] == ids[1] and len(set(ids)) == 3
    wide, tele, unknown = (cameras.of_image[f"{i}.jpg"] for i in (1, 3, 4))
    assert tele.mean_focal_length() == pytest.approx(2 * wide.mean_focal_length())
    assert wide.has_prior_focal_length and not unknown.has_prior_focal_length
    assert unknown.mean_focal_length() == pytest.approx(1.2 * 90)
    assert [cameras.source[i] for i in (ids[0], ids[2], ids[3])] == ["exif", "exif", "guess"]


def scan_folder_all(root: Path) -> dict[str, Photograph]:
    """Headers of all, copies too: grey photographs are all alike."""
    scan = scan_folder(root)
    first = next(iter(scan.kept.values()))
    for name in scan.left_out:
        with Image.open(root / name) as image:
            scan.kept[name] = Photograph(name, *image.size, device=first.device)
    return dict(sorted(scan.kept.items()))


def test_without_exif_one_size_is_one_camera_and_mixed_sizes_are_one_each(tmp_path: Path) -> None:
    def count(mode: str = "auto", **sizes: tuple[int, int]) -> int:
        return len(choose_cameras(tmp_path, photographs(**sizes), mode).unique)

    assert count(a=(90, 60), b=(90, 60), c=(90, 60)) == 1
    assert count(a=(90, 60), b=(90, 60), c=(60, 90)) == 3
    assert count("per-image", a=(90, 60), b=(90, 60)) == 2
    folders = {name: Photograph(name, 90, 60) for name in ("l/1.jpg", "l/2.jpg", "r/1.jpg", "r/2.jpg")}
    assert len(choose_cameras(tmp_path, folders, "per-folder").unique) == 2
    assert len(choose_cameras(tmp_path, folders, "auto").unique) == 2
    with pytest.raises(InputError, match=r"b\.jpg is 60x90 and a\.jpg 90x60: they cannot share a camera"):
        count("single", a=(90, 60), b=(60, 90))
    with pytest.raises(ConfigError, match="no camera mode 'one'"):
        count("one", a=(90, 60))


def test_an_absurd_focal_length_is_not_believed(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        save(tmp_path / name, GREY, "Phone", focal_35=5000)
    camera = choose_cameras(tmp_path, {n: Photograph(n, 90, 60, device=("x",)) for n in ("1.jpg", "2.jpg")}).unique[0]
    assert not camera.has_prior_focal_length and camera.mean_focal_length() == pytest.approx(108)


def test_given_intrinsics(tmp_path: Path) -> None:
    known = photographs(a=(90, 60), b=(60, 90))
    text = tmp_path / "cameras.txt"
    text.write_text("1 PINHOLE 90 60 80 81 45 30\n2 OPENCV 60 90 70 70 30 45 0.1 0 0 0\n")
    assert read_given(text, known)["b.jpg"].params[0] == 70
    cameras = choose_cameras(tmp_path, known, given=text)
    assert cameras.fixed == {1, 2} and cameras.count("given") == 2
    assert choose_cameras(tmp_path, known, given=text, refine_given=True).fixed == frozenset()
    (tmp_path / "images.txt").write_text("# comment\n7 1 0 0 0 0 0 0 2 b.jpg\n\n8 1 0 0 0 0 0 0 1 a.jpg\n1 2 3\n")
    assert read_given(text, known)["a.jpg"].params[0] == 80
    listing = tmp_path / "cameras.json"
    entry = {"width": 90, "height": 60, "fx": 80, "fy": 81, "cx": 44, "cy": 31}
    listing.write_text(json.dumps({"a.jpg": entry, "other.jpg": entry}))
    found = choose_cameras(tmp_path, known, given=listing)
    assert found.source[found.of_image["a.jpg"].camera_id] == "given"
    assert found.source[found.of_image["b.jpg"].camera_id] == "guess"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cameras.txt", "1 PINHOLE 90 60 80\n", r"cameras\.txt:1: .* is no camera"),
        ("cameras.txt", "# nothing\n", "has no camera"),
        ("cameras.txt", "1 PINHOLE 90 61 80 80 45 30\n", "camera of a.jpg is 90x61, the photograph 90x60"),
        ("cameras.txt", "1 PINHOLE 9 6 8 8 4 3\n2 PINHOLE 90 60 8 8 4 3\n3 PINHOLE 90 60 9 9 4 3\n", "2 of them"),
        ("cameras.json", "{", "cannot be read"),
        ("cameras.json", '{"a.jpg": {"width": 90}}', "cannot be read"),
        ("cameras.json", "[]", "cannot be read"),
        ("cameras.json", "{}", "no camera of these photographs; the first is 'a.jpg'"),
    ],
)
def test_bad_intrinsics(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_given(tmp_path / name, photographs(a=(90, 60)))
    with pytest.raises(InputError, match="do not exist"):
        read_given(tmp_path / "absent.txt", photographs(a=(90, 60)))
