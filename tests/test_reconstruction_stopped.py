"""Structure from motion that was killed or interrupted, and run again."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import reconstruction
from samfeat_hloc.alignment import align_centers
from samfeat_hloc.mapped_models import is_mapped
from samfeat_hloc.stage_folder import DATABASE_NAME
from tests.kill import DEADLINE_S, ROOT
from tests.reconstructing import IMAGE_OPTIONS, centres, photographed_world, reconstruct
from tests.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return photographed_world(tmp_path_factory.mktemp("world"))


def test_killed_while_mapping_and_run_again(world: World, tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from samfeat_hloc import reconstruction as r
def wait(*arguments):
    (Path(sys.argv[1]) / "mapping").touch()
    import time; time.sleep(600)
r.run_mapper = wait
r.main(Path(sys.argv[1]), *sys.argv[2:6], camera_mode="SINGLE", image_options={IMAGE_OPTIONS!r})
"""
    sfm = tmp_path / "sfm"
    arguments = [sfm, world.images, world.pairs_db, world.features, world.matches_db]
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT)
    deadline = time.monotonic() + DEADLINE_S
    while not (sfm / "mapping").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with sqlite3.connect(sfm / DATABASE_NAME) as connection:
        assert connection.execute("select count(*) from matches").fetchone()[0] == 28
    connection.close()
    assert set(centres(reconstruct(world, sfm))) == set(world.database)


@pytest.mark.parametrize("mapper", ["incremental", "global"])
def test_stopped_in_the_last_adjustment_it_does_not_map_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapper: str
) -> None:
    whole, sfm = reconstruct(world, tmp_path / "whole", mapper=mapper), tmp_path / "sfm"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr(reconstruction, "finish_model", stop)
        reconstruct(world, sfm, mapper=mapper)
    assert is_mapped(sfm)
    with monkeypatch.context() as patched:
        patched.setattr(reconstruction, "run_mapper", stop)
        again = reconstruct(world, sfm, mapper=mapper)
    expected, found = centres(whole), centres(again)
    assert found.keys() == expected.keys()
    places, truth = (np.array([each[name] for name in sorted(expected)]) for each in (found, expected))
    # the mapper begins with one pair or another as its threads run, which decides the model's frame and scale
    worst = float(np.linalg.norm(align_centers(places, truth).apply(places) - truth, axis=1).max())
    assert worst < 1e-3, f"{worst} from the model of a run that was not stopped"
    records = [json.loads((folder / "stage.json").read_text()) for folder in (tmp_path / "whole", sfm)]
    assert records[0]["statistics"] == pytest.approx(records[1]["statistics"], rel=1e-3)
    assert sorted(path.name for path in sfm.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
