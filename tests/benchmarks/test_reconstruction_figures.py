"""The figures of benchmarks/reconstruction.py against cases with a known answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reconstruction import SETS, position_errors, table, true_centres
from pipelines.photos import parse
from pipelines.photos_run import matcher_of
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import InputError
from tests.world import CAMERA, look_at

PLACES = {
    f"{number}.jpg": np.array(place, float)
    for number, place in enumerate([(0, 0, 0), (4, 0, 1), (8, 1, 0), (2, 3, 0), (6, -3, 1)])
}


def model_at(places: dict[str, np.ndarray]) -> pycolmap.Reconstruction:
    """A model with cameras at these places."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(CAMERA)
    for number, (name, place) in enumerate(places.items(), 1):
        image = pycolmap.Image(name=name, camera_id=CAMERA.camera_id, image_id=number)
        model.add_image_with_trivial_frame(image, look_at(place, place + np.array([0, 0, 5.0])))
    return model


def test_a_similar_model_has_no_error() -> None:
    turn = pycolmap.Rotation3d(np.array([0.1, 0.2, 0.3, 0.9]) / np.linalg.norm([0.1, 0.2, 0.3, 0.9])).matrix()
    model = model_at({name: 0.3 * turn @ place + [5, 6, 7] for name, place in PLACES.items()})
    errors = position_errors(model, PLACES)
    assert set(errors) == set(PLACES) and max(errors.values()) < 1e-9


def test_a_moved_camera_is_seen_and_counts_in_metres() -> None:
    moved = {**PLACES, "4.jpg": PLACES["4.jpg"] + [0, 0, 0.1]}
    errors = position_errors(model_at({name: 10 * place for name, place in moved.items()}), PLACES)
    assert max(errors, key=lambda name: errors[name]) == "4.jpg"
    assert 0.02 < errors["4.jpg"] < 0.1
    assert np.sqrt(np.sum(np.square(list(errors.values())))) < 0.1  # the fit is no worse than no alignment


def test_only_common_photographs_count() -> None:
    some = {name: PLACES[name] for name in list(PLACES)[:4]}
    assert set(position_errors(model_at({**some, "other.jpg": np.ones(3)}), PLACES)) == set(some)
    with pytest.raises(InputError, match="2 photographs of the model have a true place"):
        position_errors(model_at({name: PLACES[name] for name in ("0.jpg", "1.jpg")}), PLACES)


def test_true_places_of_both_kinds(tmp_path: Path) -> None:
    listing = tmp_path / "cameras.json"
    listing.write_text(json.dumps({name: {"camera_center_m": list(place)} for name, place in PLACES.items()}))
    model_at({f"db/{name}": place for name, place in PLACES.items()}).write(tmp_path)
    for found in (true_centres(listing, "strecha/images"), true_centres(tmp_path, "south/db")):
        assert set(found) == set(PLACES)
        np.testing.assert_allclose(found["2.jpg"], PLACES["2.jpg"], atol=1e-9)
    with pytest.raises(InputError, match="do not exist"):
        true_centres(tmp_path / "absent.json", "x")


def test_a_run_without_a_model_has_its_row() -> None:
    row = {"intrinsics": "unknown", "features": "sift", "mapper": "global", "images": None, "points": None}
    row |= {"mean_track_length": None, "mean_reprojection_error_px": None, "stages": {}}
    assert "0 of 10" in table({"photographs": 10, "rows": [row]})


def test_every_variant_is_a_command_of_the_pipeline_and_differs() -> None:
    for chosen in SETS.values():
        ways = set()
        for variant in chosen.variants:
            options = parse(["photos", *(word.format(truth="cameras.json") for word in variant.arguments)])
            assert (options.cameras is not None) == variant.name.startswith("known")
            ways.add((options.cameras, matcher_of(options, "samfeat")))
            assert matcher_of(options, "sift") == "nn-ratio" or variant.features == ("samfeat",)
        assert len(ways) == len(chosen.variants)


def test_known_intrinsics_have_the_ratio_test_by_default() -> None:
    asked = [[], ["--cameras", "c.json"], ["--cameras", "c.json", "--matcher", "nn-mutual"]]
    found = [matcher_of(parse(["photos", *words]), "samfeat") for words in asked]
    assert found == ["nn-mutual", "nn-ratio", "nn-mutual"]
