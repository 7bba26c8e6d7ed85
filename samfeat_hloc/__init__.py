"""SAMFeat local features, and the localization runtime around them.

Importing this package is cheap: torch, pycolmap and the weights are loaded when something first needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from samfeat_hloc._version import __version__
from samfeat_hloc.allocator import ask_for_large_pages
from samfeat_hloc.errors import end_early_interrupts

if TYPE_CHECKING:
    from samfeat_hloc.extractors.samfeat import SAMFeatExtractor
    from samfeat_hloc.formats.features import Features
    from samfeat_hloc.functional import extract, match
    from samfeat_hloc.hloc_plugin import register_with_hloc
    from samfeat_hloc.localizer import Localizer, Pose

end_early_interrupts(__name__)
ask_for_large_pages()

_WHERE = {
    "Features": "samfeat_hloc.formats.features",
    "Localizer": "samfeat_hloc.localizer",
    "Pose": "samfeat_hloc.localizer",
    "SAMFeatExtractor": "samfeat_hloc.extractors.samfeat",
    "extract": "samfeat_hloc.functional",
    "match": "samfeat_hloc.functional",
    "register_with_hloc": "samfeat_hloc.hloc_plugin",
}

__all__ = [
    "Features", "Localizer", "Pose", "SAMFeatExtractor", "__version__", "extract", "match", "register_with_hloc",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'samfeat_hloc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
