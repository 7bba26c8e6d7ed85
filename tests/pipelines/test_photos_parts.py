"""Parts of the photographs' pipeline: scanning, cameras, pairs, reasons, stage log, pictures."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.photos import parse
from pipelines.photos_failures import Connections, reasons
from pipelines.photos_links import readable_folder
from pipelines.photos_pairs import sequence_pairs, write_photo_pairs
from pipelines.photos_pictures import to_upright
from pipelines.photos_scan import Photograph, natural_key, scan_folder
from pipelines.photos_stages import StageLog
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import Features, FeatureWriter
from samfeat_hloc.formats.pairs import read_pairs
from samfeat_hloc.images import stored_size, to_stored_pixels
from tests.pipelines.photo_folder import save

GREY = np.full((60, 90, 3), 128, np.uint8)


def photographs(**sizes: tuple[int, int]) -> dict[str, Photograph]:
    return {f"{name}.jpg": Photograph(f"{name}.jpg", *size) for name, size in sizes.items()}


def test_a_scan_reads_size_orientation_and_device(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", GREY, "Phone", orientation=6, focal_35=28)
    save(tmp_path / "b/c.png", GREY)
    scan = scan_folder(tmp_path)
    assert scan.kept["a.jpg"].size == (60, 90) and scan.kept["a.jpg"].orientation == 6
    assert scan.kept["a.jpg"].device == ("Maker", "Phone", "", "", "28")
    assert scan.kept["b/c.png"].device is None and scan.left_out == {}


def test_what_a_scan_leaves_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("IMG_2.jpg", "IMG_10.jpg"):
        save(tmp_path / name, rng.integers(0, 255, (60, 90, 3), dtype=np.uint8))
    (tmp_path / "IMG_11.jpg").write_bytes((tmp_path / "IMG_2.jpg").read_bytes())
    save(tmp_path / "tall.jpg", np.zeros((260, 100, 3), np.uint8))
    save(tmp_path / "limit.png", np.zeros((250, 100, 3), np.uint8))
    xmp = b"<x:xmpmeta><GPano:ProjectionType>equirectangular</GPano:ProjectionType></x:xmpmeta>"
    Image.fromarray(np.zeros((60, 120, 3), np.uint8)).save(tmp_path / "sphere.jpg", xmp=xmp)
    (tmp_path / "phone.HEIC").write_bytes(b"x")
    scan = scan_folder(tmp_path)
    assert list(scan.kept) == ["IMG_2.jpg", "IMG_10.jpg", "limit.png"]
    assert scan.left_out["IMG_11.jpg"].startswith("a copy of IMG_2.jpg")
    assert scan.left_out["tall.jpg"].startswith("a panorama (100x260, sides 2.6 to 1, limit 2.5)")
    assert scan.left_out["sphere.jpg"].startswith("a spherical panorama")
    assert "heic files are not read" in scan.left_out["phone.HEIC"]
    assert "tall.jpg" in scan_folder(tmp_path, max_aspect=3).kept


def test_file_order_counts_numbers() -> None:
    names = ["b/1.jpg", "a10.jpg", "a9.jpg", "a/2.jpg", "a/²x.jpg", "a/10.jpg"]
    assert sorted(names, key=natural_key) == ["a/2.jpg", "a/10.jpg", "a/²x.jpg", "a9.jpg", "a10.jpg", "b/1.jpg"]


def test_names_with_white_space_are_linked(tmp_path: Path) -> None:
    root, out = tmp_path / "photos", tmp_path / "out"
    links = out / "photographs"
    save(root / "a.jpg", GREY)
    assert readable_folder(root, out) == root and not links.exists()
    save(root / "my trip/b (1).jpg", np.zeros((60, 90, 3), np.uint8))
    for _ in range(2):
        assert readable_folder(root, out) == links
        assert list(scan_folder(links, outputs=out).kept) == ["a.jpg", "my_trip/b_(1).jpg"]
    (root / "a.jpg").unlink()
    save(root / "c.jpg", np.full((60, 90, 3), 7, np.uint8))
    readable_folder(root, out)
    assert list(scan_folder(links).kept) == ["c.jpg", "my_trip/b_(1).jpg"]
    save(root / "my_trip/b_(1).jpg", GREY)
    with pytest.raises(InputError, match="have one name without white space"):
        readable_folder(root, out)
    with pytest.raises(InputError, match="does not exist"):
        readable_folder(tmp_path / "absent", out)


@pytest.mark.parametrize("out", ["out", "outputs/photos/my out"])
@pytest.mark.parametrize("name", ["b.jpg", "b (1).jpg"])
def test_outputs_inside_the_folder_are_not_its_photographs(tmp_path: Path, out: str, name: str) -> None:
    rng = np.random.default_rng(0)
    kept = ["a.jpg", name.replace(" ", "_"), "outward.jpg"]
    for photograph in ("a.jpg", name, "outward.jpg"):
        save(tmp_path / photograph, rng.integers(0, 255, (60, 90, 3), dtype=np.uint8))
    (tmp_path / "phone.heic").write_bytes(b"x")
    outputs = parse([str(tmp_path), "--outputs", str(tmp_path / out)]).out
    for _ in range(2):
        folder = readable_folder(tmp_path, outputs)
        assert folder == (outputs / "photographs" if " " in name else tmp_path)
        scan = scan_folder(folder, outputs=outputs)
        assert list(scan.kept) == kept and list(scan.left_out) == ["phone.heic"]
        for picture in ("pictures/map.png", "pictures/pair-1.png", "samfeat/pictures/pair 2.png"):
            save(outputs / picture, rng.integers(0, 255, (60, 90, 3), dtype=np.uint8))
        (outputs / "pictures/raw.heic").write_bytes(b"x")


def test_the_outputs_are_not_the_folder_itself(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", GREY)
    with pytest.raises(InputError, match="give --outputs elsewhere"):
        readable_folder(tmp_path, tmp_path / "below" / "..")


def write_features(path: Path, count: int) -> list[str]:
    """Photographs along a line: each descriptor set overlaps the next ones'."""
    rng = np.random.default_rng(0)
    words = rng.normal(size=(20 * count + 200, 16)).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    names = [f"{number}.jpg" for number in range(count)]
    with FeatureWriter(path, {"name": "test"}, "w") as writer:
        for number, name in enumerate(names):
            ones = np.ones(100, np.float32)
            points = rng.random((100, 2)).astype(np.float32)
            writer.add(name, Features(points, words[20 * number : 20 * number + 100], ones, ones, (9, 9)))
    return names


def test_pairs_by_size(tmp_path: Path) -> None:
    names = write_features(tmp_path / "features.h5", 30)
    words, count = write_photo_pairs(tmp_path / "features.h5", names, tmp_path / "pairs.txt", exhaustive_images=30)
    assert count == 435 and "every pair of 30" in words
    words, count = write_photo_pairs(tmp_path / "features.h5", names, tmp_path / "few.txt", 29, 4, 3)
    pairs = {tuple(sorted(pair)) for pair in read_pairs(tmp_path / "few.txt")}
    assert count == len(pairs) <= 30 * 7
    assert re.match("4 most similar photographs .* next 3 by file name for each of 30", words)
    assert {tuple(sorted((f"{i}.jpg", f"{i + 3}.jpg"))) for i in range(27)} <= pairs  # neighbours by number, not text
    written = (tmp_path / "few.txt").stat().st_mtime_ns
    assert write_photo_pairs(tmp_path / "features.h5", names, tmp_path / "few.txt", 29, 4, 3) == (words, count)
    assert (tmp_path / "few.txt").stat().st_mtime_ns == written
    write_photo_pairs(tmp_path / "features.h5", names, tmp_path / "few.txt", 29, 4, 2)
    assert (tmp_path / "few.txt").stat().st_mtime_ns != written


def test_neighbours_stay_in_their_folder() -> None:
    assert sequence_pairs(["b/1.jpg", "a/2.jpg", "a/10.jpg", "a/1.jpg"], 1) == [
        ("a/1.jpg", "a/2.jpg"),
        ("a/2.jpg", "a/10.jpg"),
    ]


def test_reasons() -> None:
    connections = {
        "in": Connections(3, 90, {"poor": 20}),
        "poor": Connections(3, 50, {"in": 20}),
        "apart": Connections(3, 50, {"second": 30}),
        "second": Connections(3, 50, {"apart": 30}),
        "alone": Connections(3, 14, {}),
    }
    asked = [*connections, "unpaired", "broken"]
    why = reasons(asked, {"broken": "torn"}, connections, [["in"], ["second"]], 0)
    assert set(why) == {"poor", "apart", "second", "alone", "unpaired", "broken"}
    assert "1 of its 3 pairs are verified, the best with in (20 inliers), but the mapper found no pose" in why["poor"]
    assert "none with a photograph of the model" in why["apart"]
    assert why["second"].startswith("in model 1, of 1 photographs")
    assert "at most 14 matches" in why["alone"]
    assert why["unpaired"].startswith("in no pair") and why["broken"] == "torn"


def test_the_stage_log_keeps_what_the_work_took(tmp_path: Path) -> None:
    output = tmp_path / "made"
    log = StageLog(tmp_path / "stages.json")
    with log("work", [output]):
        # pages of its own: what the heap has free from earlier tests could hold an array with no page more
        with mmap.mmap(-1, 60 * 2**20) as block:
            block.write(b"1" * len(block))
        output.write_text("1")
    with log("idle"):
        pass
    took = log.rows["work"]
    assert took["peak_memory_mb"] > log.rows["idle"]["peak_memory_mb"] + 40
    again = StageLog(tmp_path / "stages.json")
    with again("work", [output]):
        pass
    assert again.rows["work"] == took
    with again("work", [output]):
        output.write_text("22")
    assert again.rows["work"]["seconds"] >= took["seconds"]
    assert json.loads((tmp_path / "stages.json").read_text()) == again.rows


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_points_are_drawn_where_they_are_seen(orientation: int) -> None:
    upright = np.zeros((60, 90, 3), np.uint8)
    points = np.array([[0.0, 0], [89, 59], [10, 20]], np.float32)
    width, height = stored_size((90, 60), orientation)
    stored = to_stored_pixels(points, orientation, width, height)
    np.testing.assert_allclose(to_upright(stored.astype(float), upright, orientation), points)


def test_the_command_line() -> None:
    options = parse(["photos/church", "--mapper", "global", "global", "--mapper-options", "min_num_matches=20"])
    assert options.mapper == ("global",) and options.mapper_options == {"min_num_matches": 20}
    assert options.out == Path("outputs/photos/church")
    with pytest.raises(ConfigError, match="--exhaustive-images is 1"):
        parse(["photos", "--exhaustive-images", "1"])
