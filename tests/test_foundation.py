"""Errors become exit statuses, files are whole or absent, configurations refuse what they do not know."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.config import from_dict, to_dict
from samfeat_hloc.errors import ConfigError, InputError, run_cli


def raise_error(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (InputError("a\nb"), 2, "error: a b\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "error: [Errno 2] No such file: 'x'\n"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to resume\n"),
    ],
)
def test_run_cli(capsys: pytest.CaptureFixture[str], error: BaseException, status: int, text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run_cli(lambda: raise_error(error))
    assert caught.value.code == status
    assert capsys.readouterr().err == text


def test_run_cli_keeps_the_traceback_of_a_defect() -> None:
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 // 0)


def test_replace_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.txt"
    with replace_file(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(KeyboardInterrupt), replace_file(path) as temporary:  # noqa: PT012
        temporary.write_text("two")
        raise KeyboardInterrupt
    assert path.read_text() == "one"
    with pytest.raises(InputError, match="is a folder"), replace_file(path.parent):
        pass
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]
    umask = os.umask(0o022)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@dataclass(frozen=True, kw_only=True)
class Inner:
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Conf:
    max_keypoints: int = 5
    ratio: float | None = None
    metric: Literal["l2", "dot"] = "l2"
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = Inner()


def test_from_dict() -> None:
    conf = from_dict(Conf, {"ratio": 1, "sizes": [3], "inner": {"radius": 2}})
    assert conf == Conf(ratio=1.0, sizes=(3,), inner=Inner(radius=2.0))
    assert to_dict(conf)["inner"] == {"radius": 2.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_keypoint": 3}, "no key 'max_keypoint'; did you mean 'max_keypoints'"),
        ({"max_keypoints": "many"}, "max_keypoints is 'many'; expected int"),
        ({"max_keypoints": True}, "expected int"),
        ({"metric": "cosine"}, "metric is 'cosine'"),
        ({"inner": {"radios": 1}}, "Inner has no key 'radios'"),
        ({"ratio": "x"}, "ratio is 'x'"),
    ],
)
def test_from_dict_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Conf, values)
