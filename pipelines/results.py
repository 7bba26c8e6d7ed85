"""What a run leaves for people: tables as Markdown and figures as JSON, each whole or absent, and its last line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.estimate import peak_memory_mb
from samfeat_hloc.atomic import replace_file


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(outputs: Path, name: str, text: str) -> None:
    """Write OUTPUTS/NAME.md and print it."""
    write_text(outputs / f"{name}.md", text)
    print(f"\n{text}")


def write_summary(outputs: Path, summary: dict[str, Any], what: str) -> None:
    """Add the process's peak memory, write OUTPUTS/summary.json, and say that `what` is in the folder."""
    summary["peak_memory_mb"] = round(peak_memory_mb(), 1)
    write_text(outputs / "summary.json", json.dumps(summary, indent=1) + "\n")
    print(f"{summary['peak_memory_mb']:.0f} MB; {what} in {outputs}")
