"""SAMFeat inside hloc: its configurations and models in hloc's own functions and command lines.

    samfeat_hloc.register_with_hloc()                  # then hloc.extract_features.confs["samfeat"] works
    python -m samfeat_hloc.hloc_plugin extract_features --conf samfeat --image_dir images --export_dir out
    python -m samfeat_hloc.hloc_plugin --weights model_29.pt extract_features --conf samfeat-released …

hloc finds a model by importing `hloc.extractors.NAME` or `hloc.matchers.NAME` and taking the one class in it that was
defined there. Registration puts such modules in place, made when hloc is there, and adds to its tables of
configurations; no file of hloc changes. Extraction and matching from hloc 1.4 on; the other stages are hloc's alone.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import pkgutil
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from samfeat_hloc.errors import InputError, MissingDependencyError, run_cli
from samfeat_hloc.formats.names import nearest_name

EXTRACTORS: dict[str, dict[str, Any]] = {
    "samfeat": {
        "output": "feats-samfeat-n4096",
        "model": {"name": "samfeat", "max_keypoints": 4096},
        "preprocessing": {"grayscale": False},
    },
    "samfeat-aachen": {
        "output": "feats-samfeat-n4096-r1600",
        "model": {"name": "samfeat", "max_keypoints": 4096},
        "preprocessing": {"grayscale": False, "resize_max": 1600},
    },
    "samfeat-max": {
        "output": "feats-samfeat-n8192-rmax1600",
        "model": {"name": "samfeat", "max_keypoints": 8192, "threshold": 0.5},
        "preprocessing": {"grayscale": False, "resize_max": 1600, "resize_force": True},
    },
    "samfeat-int8": {
        "output": "feats-samfeat-int8-n4096",
        "model": {"name": "samfeat", "preset": "samfeat-int8", "max_keypoints": 4096},
        "preprocessing": {"grayscale": False},
    },
    "samfeat-looks": {
        "output": "feats-samfeat-looks-n4096",
        "model": {"name": "samfeat", "preset": "samfeat-looks", "max_keypoints": 4096},
        "preprocessing": {"grayscale": False},
    },
    "samfeat-released": {
        "output": "feats-samfeat-released-n10000",
        "model": {"name": "samfeat", "preset": "samfeat-released", "max_keypoints": 10000},
        "preprocessing": {"grayscale": False},
    },
    "samfeat-vlad": {
        "output": "global-feats-samfeat-vlad",
        "model": {"name": "samfeat_vlad", "codebook": None},
        "preprocessing": {"grayscale": False, "resize_max": 1024},
    },
}
"""Joins `hloc.extract_features.confs`. "model" takes every field of `SAMFeatConf`, and "preset" for its other defaults;
samfeat-max is for small images and weak texture: all at 1,600 pixels, twice the keypoints from a lower threshold."""
MATCHERS: dict[str, dict[str, Any]] = {
    name: {"output": f"matches-{name}", "model": {"name": "samfeat", "preset": name.removeprefix("samfeat-")}}
    for name in ("samfeat-nn-mutual", "samfeat-nn-ratio", "samfeat-nn-attention")
} | {"samfeat-released": {"output": "matches-samfeat-released", "model": {"name": "samfeat", "preset": "released"}}}
"""Joins `hloc.match_features.confs`: the matchers of this package; "model" takes every field of
`NearestNeighborConf`. hloc's own NN-mutual works with SAMFeat too, and gives what samfeat-nn-mutual gives."""
MODELS = {
    ("extractors", "samfeat"): "SAMFeat",
    ("extractors", "samfeat_vlad"): "SAMFeatVLAD",
    ("matchers", "samfeat"): "SAMFeatMatcher",
}
"""Sub-package of hloc and module name -> class in `samfeat_hloc.hloc_plugin_models`."""
HOW_TO_GET = (
    "it is on no package index: git clone https://github.com/cvg/Hierarchical-Localization hloc-src && "
    "pip install packaging scipy && pip install --no-deps -e hloc-src"
)


def register_with_hloc() -> None:
    """Make the configurations of `EXTRACTORS` and `MATCHERS` usable by hloc; calling it again changes nothing.

    A configuration that hloc's tables have by now, such as one the user changed, stays as it is.

    Raises:
        MissingDependencyError: hloc cannot be imported; says how to get it.
    """
    extract_features, match_features = _import("extract_features"), _import("match_features")
    base = _import("utils.base_model").BaseModel
    for (package, name), kind in MODELS.items():
        _add_module(_import(package), name, kind, base)
    for known, ours in ((extract_features.confs, EXTRACTORS), (match_features.confs, MATCHERS)):
        for name, conf in ours.items():
            known.setdefault(name, copy.deepcopy(conf))


def use_weights(weights: str) -> None:
    """Have our extractors in hloc's table load these weights, and name their files after them.

    hloc takes features that a file has for done, whatever made them: those of other weights need a file of their own.
    Call it after `register_with_hloc`; samfeat-vlad needs a codebook of the same weights, in its conf.

    Args:
        weights: shipped name or checkpoint file.

    Raises:
        InputError: no such weights.
        MissingDependencyError: hloc cannot be imported.
    """
    from samfeat_hloc.checkpoints import load_weights

    load_weights(weights)  # what is wrong with them is told before hloc starts its work
    known = _import("extract_features").confs
    for name in EXTRACTORS:
        conf = known[name]
        suffix = f"-{Path(weights).stem}"
        output = conf["output"].removesuffix(suffix) + suffix
        known[name] = {**conf, "output": output, "model": {**conf["model"], "weights": weights}}


def run_stage(stage: str, arguments: list[str], weights: str | None = None) -> None:
    """Run one of hloc's command lines, such as ``extract_features``, with our configurations among its choices.

    `python -m hloc.STAGE` would be a second copy of the module, whose table of configurations nothing was added to. So
    the module is imported, and only what it has under ``if __name__ == "__main__":`` is run, in its own names.

    Args:
        stage: its name, as in ``python -m hloc.STAGE``.
        arguments: of hloc's command line.
        weights: for our extractors, see `use_weights`; None: those of their confs.

    Raises:
        MissingDependencyError: hloc cannot be imported, or its stage needs another package.
        InputError: hloc has no such command line.
    """
    register_with_hloc()
    if weights is not None:
        use_weights(weights)
    module = _import(stage.removeprefix("hloc."))
    path = Path(module.__file__ or "")
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    block = [line for node in tree.body if _is_main_guard(node) for line in node.body]  # type: ignore[attr-defined]
    if not block:
        raise InputError(f"hloc has no command line '{stage}'; expected one such as extract_features, match_features")
    before = sys.argv
    sys.argv = [f"hloc_plugin {stage}", *arguments]
    try:
        program = compile(ast.Module(block, type_ignores=[]), str(path), "exec")
        exec(program, {**vars(module), "__name__": "__main__"})  # hloc's own file, as python -m would run it
    finally:
        sys.argv = before


def _import(name: str) -> ModuleType:
    """A module of hloc, or one line that says why it is not there."""
    try:
        package = importlib.import_module("hloc")
        return importlib.import_module(f"hloc.{name}")
    except ModuleNotFoundError as error:
        if error.name == "hloc":
            raise MissingDependencyError(f"hloc cannot be imported; {HOW_TO_GET}") from None
        if error.name is not None and error.name.startswith("hloc."):
            near = nearest_name(name, [module.name for module in pkgutil.iter_modules(package.__path__)])
            hint = f"did you mean '{near}'?" if near else "expected one such as extract_features, match_features"
            raise InputError(f"hloc in {package.__path__[0]} has no module '{name}'; {hint}") from None
        raise MissingDependencyError(f"hloc's {name} needs {error.name}; run: pip install {error.name}") from None
    except ImportError as error:
        raise MissingDependencyError(f"hloc's {name} cannot be imported ({error}); install it again") from None


def _add_module(package: ModuleType, name: str, kind: str, base: type) -> None:
    """Put `hloc.PACKAGE.NAME` in place, with one class that hloc takes for its own."""
    from samfeat_hloc import hloc_plugin_models

    path = f"{package.__name__}.{name}"
    if isinstance(getattr(package, name, None), ModuleType):
        return
    module = module_from_spec(ModuleSpec(path, None, origin=__file__))
    model = type(kind, (getattr(hloc_plugin_models, kind), base), {"__module__": path})
    setattr(module, kind, model)
    sys.modules[path] = module
    setattr(package, name, module)


def _is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__")


def cli() -> None:
    """Command line: `STAGE ARGUMENTS...`; the arguments are those of hloc's stage."""
    parser = argparse.ArgumentParser(
        prog="python -m samfeat_hloc.hloc_plugin",
        description="hloc's own command lines, with SAMFeat among their configurations.",
        epilog="extract_features, match_features, pairs_from_retrieval, localize_sfm …: all of hloc's",
    )
    parser.add_argument("--weights", help="shipped name or checkpoint file, for our extractors; before STAGE")
    parser.add_argument("stage", help="a command line of hloc, as in python -m hloc.STAGE")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments; STAGE --help lists them")
    options = parser.parse_args()
    run_stage(options.stage, options.arguments, options.weights)


if __name__ == "__main__":
    run_cli(cli)
