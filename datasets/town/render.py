"""A town ready to be photographed, and the photographing of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .atlas import Atlas, AtlasBuilder, lookup
from .camera import Camera, Pose
from .geometry import Scene
from .lightmap import LightMap, bake
from .photograph import develop_day, develop_night
from .raster import Field, Matrix, Mesh, Raster, perspective
from .shade import Surface, texture, to_linear
from .sky import Sky
from .square import Site, build_square
from .sun import ShadowMap, shadow_map

SCENE_RADIUS_M = 44.0
SUPERSAMPLE = 2
SUN = np.array([1.0, 0.93, 0.82]) * 5.2
SKYLIGHT = np.array([0.66, 0.74, 0.86]) * 1.65
OVERCAST = np.array([0.95, 0.97, 1.0]) * 3.0
NIGHT_EXPOSURE = 0.42
GLASS_GLOW = 0.18  # a lit pane shines even where what hangs behind it is dark
STRIP = 64


@dataclass(frozen=True)
class Town:
    """Everything a frame is made from; built once from a seed by build_town."""

    seed: int
    site: Site
    mesh: Mesh
    atlas: Atlas
    light: LightMap
    sun: ShadowMap
    towards_sun: Matrix
    sky: Sky
    instances: NDArray[np.int32]  # (P,) instance of every polygon; 0 is the sky
    names: list[str]  # of the instances
    tints: Field  # (P, 3)
    glow: Field  # (P, 3)


@dataclass(frozen=True)
class View:
    """image (H, W, 3) uint8 RGB; depth_m (H, W) float32 along the optical axis at pixel centres, inf for sky;
    instances (H, W) int32, 0 for sky; polygons (H, W) int32, -1 for sky."""

    image: NDArray[np.uint8]
    depth_m: Field
    instances: NDArray[np.int32]
    polygons: NDArray[np.int32]


def build_town(seed: int, detail: float = 1.0) -> Town:
    """Draw and light the town of a seed: about 15 s of one core and 0.6 GB.

    detail scales the textures' resolution: a town for tests builds faster with less, and is another one.
    """
    rng = np.random.default_rng([seed, 7001])
    scene, builder = Scene(), AtlasBuilder()
    site = build_square(rng, scene, builder, detail)
    atlas = builder.build()
    mesh = Mesh.build(scene.polygons, atlas)
    azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(38, 58))
    towards_sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    light = bake(rng, scene.polygons, mesh, scene.lamps, SCENE_RADIUS_M)
    sun = shadow_map(mesh, towards_sun, 3584, SCENE_RADIUS_M, atlas)
    return Town(
        seed,
        site,
        mesh,
        atlas,
        light,
        sun,
        towards_sun,
        Sky.random(rng, towards_sun),
        np.array([p.instance for p in scene.polygons], np.int32),
        scene.instances,
        np.array([p.paint.tint for p in scene.polygons], np.float32),
        np.array([p.paint.glow for p in scene.polygons], np.float32),
    )


def rasterize(town: Town, camera: Camera, cam_from_world: Pose) -> Raster:
    """Polygon and inverse depth at every pixel centre."""
    return perspective(
        town.mesh,
        cam_from_world.rotation,
        cam_from_world.translation,
        camera.matrix,
        camera.width,
        camera.height,
        town.atlas,
    )


def photograph(
    town: Town, camera: Camera, cam_from_world: Pose, night: bool = False, seed: int = 0, sunshine: float = 1.0
) -> NDArray[np.uint8]:
    """The image (H, W, 3) uint8 RGB alone. seed drives exposure and noise; sunshine in [0, 1]: overcast to clear."""
    fine = camera.scaled(SUPERSAMPLE)
    light = _light(town, fine, cam_from_world, rasterize(town, fine, cam_from_world), night, sunshine)
    light = cv2.resize(light, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng([town.seed, 7002, seed])
    return develop_night(light, rng) if night else develop_day(light, rng)


def render_view(
    town: Town, camera: Camera, cam_from_world: Pose, night: bool = False, seed: int = 0, sunshine: float = 1.0
) -> View:
    """Photograph the town, with exact depth and masks; arguments as for photograph."""
    exact = rasterize(town, camera, cam_from_world)
    covered = exact.ids >= 0
    with np.errstate(divide="ignore"):
        depth = np.where(covered, 1.0 / exact.depth_key, np.float32(np.inf)).astype(np.float32)
    instances = np.where(covered, town.instances[exact.ids], 0).astype(np.int32)
    return View(photograph(town, camera, cam_from_world, night, seed, sunshine), depth, instances, exact.ids)


def _light(town: Town, camera: Camera, pose: Pose, raster: Raster, night: bool, sunshine: float) -> Field:
    """Linear light (H, W, 3) of one sample a pixel, worked out in strips that fit the processor's cache."""
    out = np.zeros((camera.height, camera.width, 3), np.float32)
    raster = Raster(raster.ids, raster.depth_key, raster.planes.astype(np.float32))
    for top in range(0, camera.height, STRIP):
        bottom = min(top + STRIP, camera.height)
        surface = Surface(raster, top, bottom)
        if len(surface.ids):
            out[surface.row, surface.column] = _surface_light(town, camera, pose, surface, night, sunshine)
    row, column = np.nonzero(raster.ids < 0)
    if len(row):
        cx, cy = camera.centre
        rays = np.stack(
            [(column + 0.5 - cx) / camera.focal, (row + 0.5 - cy) / camera.focal, np.ones(len(row))], axis=1
        )
        world = (rays @ pose.rotation).astype(np.float32)
        world /= np.linalg.norm(world, axis=1, keepdims=True)
        out[row, column] = town.sky.colour(world, night)
    return out


def _surface_light(town: Town, camera: Camera, pose: Pose, surface: Surface, night: bool, sunshine: float) -> Field:
    texels = texture(surface, town.atlas, town.mesh.texels)
    albedo = to_linear(texels[:, :3]) * town.tints.take(surface.ids, axis=0)
    place = town.light.places.take(surface.ids, axis=0)
    baked = lookup(town.light.values, place[:, 0] + place[:, 2] * surface.u, place[:, 1] + place[:, 3] * surface.v)
    if night:
        moon = baked[:, :1] * np.array([0.005, 0.0065, 0.010], np.float32)
        colour = albedo * (baked[:, 1:] * np.float32(0.6) + moon)
        glowing = ~town.mesh.cutout.take(surface.ids)
        strength = (texels[:, 3].astype(np.float32) / 255 * glowing)[:, None]
        colour += town.glow.take(surface.ids, axis=0) * strength * (GLASS_GLOW + albedo)
        return np.asarray(colour * np.float32(NIGHT_EXPOSURE), np.float32)
    facing = town.mesh.normals @ town.towards_sun
    facing = np.where(town.mesh.cutout, 0.35 + 0.5 * np.abs(facing), np.maximum(facing, 0)).astype(np.float32)
    direct = facing.take(surface.ids) * _sunlit(town, camera, pose, surface) * np.float32(sunshine)
    cloudy = SKYLIGHT * sunshine + OVERCAST * (1 - sunshine)
    colour = albedo * (direct[:, None] * SUN.astype(np.float32) + baked[:, :1] * cloudy.astype(np.float32))
    haze = (1 - np.exp(-surface.depth / 900.0))[:, None]
    colour += (np.array([0.6, 0.7, 0.82], np.float32) - colour) * haze
    return np.asarray(colour, np.float32)


def _sunlit(town: Town, camera: Camera, pose: Pose, surface: Surface) -> Field:
    """1 where the sun reaches a sample; looked up half a texel apart within a 2 x 2 block, so that edges are soft."""
    sun = town.sun
    turn = sun.rotation @ pose.rotation.T
    start = sun.rotation @ pose.centre + sun.shift
    cx, cy = camera.centre
    rx, ry = (
        (surface.x - np.float32(cx)) / np.float32(camera.focal),
        (surface.y - np.float32(cy)) / np.float32(camera.focal),
    )
    local = [
        np.float32(start[k])
        + surface.depth * (np.float32(turn[k, 0]) * rx + np.float32(turn[k, 1]) * ry + np.float32(turn[k, 2]))
        for k in range(3)
    ]
    half = np.float32(0.5 / sun.texels_per_m)
    return sun.lit_local(
        local[0] + (surface.column % 2 * 2 - 1) * half, local[1] + (surface.row % 2 * 2 - 1) * half, local[2], 0.06
    )
