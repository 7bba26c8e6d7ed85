"""A small town square rendered by the program itself: the dataset that is always there.

Exact cameras, depth and instance masks, by day and by night, written in the layout of Aachen Day-Night:
`python -m datasets.town OUT --seed 0`. Nothing is downloaded; a seed gives the same bytes on the same machine.
"""

from .camera import Camera, Pose
from .placement import Shot, place_shots
from .render import Town, View, build_town, photograph, render_view
from .writer import write_town

__all__ = [
    "Camera",
    "Pose",
    "Shot",
    "Town",
    "View",
    "build_town",
    "photograph",
    "place_shots",
    "render_view",
    "write_town",
]
