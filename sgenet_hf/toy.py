"""Toy street scenes: procedural pictures with exact labels, for machines without any data.

A street in perspective: a sky with clouds, hills, rows of facades with windows, a road with kerbs and lane marks,
trees and cars. Everything is placed in metres and projected by one camera, so that the layout obeys laws that an
inpainting network can learn: vanishing lines, repeated windows, shadows away from one sun, haze with distance.

The scene is painted at twice the size, back to front, and averaged down; labels are painted by the same calls and
never mixed.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


# Class ids in order, with the colours they are drawn in.
TOY_CLASSES = {
    "sky": (120, 180, 230),
    "hill": (110, 150, 90),
    "facade": (190, 110, 90),
    "window": (70, 90, 150),
    "road": (128, 128, 134),
    "tree": (40, 120, 50),
    "car": (220, 60, 70),
}
SKY, HILL, FACADE, WINDOW, ROAD, TREE, CAR = range(len(TOY_CLASSES))

# How much fine grain each class shows, as a share of its brightness.
_GRAIN = np.array([0.004, 0.028, 0.02, 0.01, 0.028, 0.045, 0.008], dtype=np.float32)

_OVERSAMPLING = 2

# What the ground is made of: colour, and how strongly stains show.
_ASPHALT, _GUTTER, _KERB, _PAVING, _GRASS = range(5)
_GROUND = np.array([(112, 113, 118), (84, 84, 88), (200, 196, 186), (178, 171, 160), (104, 138, 60)], dtype=np.float32)
_STAINS = np.array([0.22, 0.1, 0.1, 0.18, 0.45], dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class _Mood:
    """Colours of one time of day; RGB from 0 to 255."""

    zenith: tuple[int, int, int]
    horizon: tuple[int, int, int]
    cloud: tuple[int, int, int]
    sun: tuple[float, float, float]  # factor on surfaces in the sun
    shade: tuple[float, float, float]  # factor on surfaces in the shade
    cloudiness: float  # 0 = clear, 1 = overcast


_MOODS = (
    _Mood((48, 112, 202), (190, 218, 240), (255, 254, 250), (1.12, 1.09, 1.02), (0.66, 0.71, 0.82), 0.42),
    _Mood((76, 130, 196), (248, 224, 190), (255, 243, 226), (1.16, 1.06, 0.9), (0.62, 0.66, 0.76), 0.5),
    _Mood((58, 126, 196), (212, 230, 238), (252, 253, 255), (1.1, 1.08, 1.04), (0.7, 0.74, 0.82), 0.6),
    _Mood((88, 118, 176), (253, 208, 160), (255, 226, 200), (1.2, 1.02, 0.82), (0.62, 0.62, 0.72), 0.5),
)

_WALLS = (
    (196, 108, 84), (214, 176, 132), (226, 206, 172), (168, 92, 78), (200, 196, 186), (186, 150, 116), (222, 190, 150),
    (150, 134, 124), (206, 138, 102), (176, 186, 180), (232, 220, 200), (140, 98, 84),
)  # fmt: skip
_ROOFS = ((128, 70, 56), (92, 88, 92), (150, 86, 62), (84, 78, 84), (112, 96, 88))
_PAINTS = (
    (176, 34, 38), (38, 70, 130), (214, 214, 214), (52, 54, 60), (148, 154, 160), (34, 92, 86), (206, 158, 52),
    (236, 236, 232),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _House:
    """A facade along the street; lengths in metres, colours from 0 to 255."""

    side: int  # -1 = left of the road
    near: float
    far: float
    storeys: int
    height: float
    wall: tuple[float, float, float]
    roof: tuple[float, float, float] | None
    columns: int
    shop: bool
    trim: float  # brightness of cornice and surrounds over the wall's


@dataclasses.dataclass(frozen=True)
class _Tree:
    x: float
    z: float
    trunk: float
    radius: float
    green: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class _Car:
    x: float
    z: float
    length: float
    height: float
    paint: tuple[float, float, float]
    rear: bool  # we see its back lights


def draw_scene(seed: int, height: int = 256, width: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Draws one street scene.

    Returns:
        The picture, uint8 (height, width, 3), and its class ids, uint8 (height, width).

    Raises:
        ValueError: A side below 16 pixels.
    """
    if min(height, width) < 16:
        raise ValueError(f"A scene needs at least 16 pixels a side, not {width}x{height}.")
    rng = np.random.default_rng(seed)
    scene = _Scene(rng, height * _OVERSAMPLING, width * _OVERSAMPLING)
    scene.paint()
    picture = np.asarray(scene.image.reduce(_OVERSAMPLING), dtype=np.float32)
    labels = np.asarray(scene.labels)[::_OVERSAMPLING, ::_OVERSAMPLING].copy()
    grain = _tile(rng, _fine_noise(), height, width)
    picture *= (1.0 + _GRAIN[labels] * grain)[:, :, None]
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8), labels


class _Scene:
    """One street, its camera and the two canvases: colours and class ids.

    World coordinates in metres: x to the right from the road's middle, y up from the ground, z away from the camera.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng = rng
        self.height, self.width = height, width
        self.mood = _MOODS[rng.integers(len(_MOODS))]
        self.sun_side = float(rng.choice((-1.0, 1.0)))  # where the sun stands: -1 = left
        self.focal = 0.95 * max(height, width)
        self.horizon = height * rng.uniform(0.5, 0.58)
        self.vanishing = width * rng.uniform(0.38, 0.62)
        self.eye = rng.uniform(1.9, 2.6)
        self.camera_x = rng.uniform(-1.2, 1.6)
        self.road = rng.uniform(3.4, 4.6)  # half of its width
        self.front = self.road + rng.uniform(2.4, 3.6)  # distance of the facades from the middle
        self.end = rng.uniform(55, 110)  # where the houses end
        self.houses = self._place_houses()
        self.trees = self._place_trees()
        self.cars = self._place_cars()
        self.image = Image.fromarray(self._sky_and_ground())
        self.labels = Image.new("L", (width, height), SKY)
        self.paper = ImageDraw.Draw(self.image, "RGBA")
        self.classes = ImageDraw.Draw(self.labels)

    def paint(self) -> None:
        """Everything that stands, from far to near."""
        self._label_ground()
        self._paint_hills()
        things: list[tuple[float, Callable[[Any], None], Any]] = []
        things += [(house.far, self._paint_house, house) for house in self.houses]
        things += [(tree.z, self._paint_tree, tree) for tree in self.trees]
        things += [(car.z, self._paint_car, car) for car in self.cars]
        for _, painter, thing in sorted(things, key=lambda entry: -entry[0]):
            painter(thing)

    # Placing

    def _place_houses(self) -> list[_House]:
        rng, houses = self.rng, []
        for side in (-1, 1):
            z = rng.uniform(1.0, 3.0)
            while z < self.end:
                length = rng.uniform(8, 17)
                storeys = int(rng.integers(2, 6))
                houses.append(
                    _House(
                        side=side,
                        near=z,
                        far=z + length,
                        storeys=storeys,
                        height=storeys * 3.1 + rng.uniform(0.6, 1.2),
                        wall=_vary(_pick(rng, _WALLS), rng, 10),
                        roof=_vary(_pick(rng, _ROOFS), rng, 8) if rng.random() < 0.6 else None,
                        columns=max(2, round(length / rng.uniform(2.4, 3.4))),
                        shop=rng.random() < 0.45,
                        trim=rng.uniform(1.06, 1.25),
                    )
                )
                z += length + (rng.uniform(3, 9) if rng.random() < 0.22 else 0.0)
        return houses

    def _place_trees(self) -> list[_Tree]:
        rng, trees = self.rng, []
        for side in (-1, 1):
            spacing, z = rng.uniform(9, 20), rng.uniform(7, 16)
            while z < self.end + 25:
                if rng.random() < 0.6:
                    x = side * (self.road + rng.uniform(0.7, 1.2))
                    green = _vary(_pick(rng, ((74, 110, 44), (92, 122, 48), (58, 98, 50), (112, 126, 50))), rng, 8)
                    trees.append(_Tree(x, z, rng.uniform(2.2, 3.0), rng.uniform(1.5, 2.5), green))
                z += spacing * rng.uniform(0.8, 1.2)
        return trees

    def _place_cars(self) -> list[_Car]:
        rng, cars = self.rng, []
        for side in (-1, 1):
            z = rng.uniform(6, 18)
            while z < 60:
                if rng.random() < 0.55:  # parked at the kerb
                    cars.append(self._car(side * (self.road - 1.05), z))
                z += rng.uniform(6, 14)
            if rng.random() < 0.6:  # driving, between the parked ones
                cars.append(self._car(side * self.road * 0.28 + side * 0.35, rng.uniform(14, 50)))
        return cars

    def _car(self, x: float, z: float) -> _Car:
        paint = _vary(_pick(self.rng, _PAINTS), self.rng, 8)
        return _Car(x, z, self.rng.uniform(3.9, 4.6), self.rng.uniform(1.38, 1.6), paint, rear=x > 0)

    # Camera and light

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Pixel (column, row) of a point at least 0.7 m in front of the camera."""
        z = max(z, 0.7)
        return (
            self.vanishing + self.focal * (x - self.camera_x) / z,
            self.horizon - self.focal * (y - self.eye) / z,
        )

    def size_at(self, metres: float, z: float) -> float:
        """Pixels that a length covers at distance z."""
        return self.focal * metres / max(z, 0.7)

    def lit(self, color: Sequence[float], light: float, z: float) -> tuple[int, int, int]:
        """A surface's colour under sun (1) or shade (0), and through the haze of its distance."""
        clear = math.exp(-z / 190) if z > 0 else 1.0
        (sun_r, sun_g, sun_b), (shade_r, shade_g, shade_b) = self.mood.sun, self.mood.shade
        far_r, far_g, far_b = self.mood.horizon
        red = color[0] * (shade_r + (sun_r - shade_r) * light)
        green = color[1] * (shade_g + (sun_g - shade_g) * light)
        blue = color[2] * (shade_b + (sun_b - shade_b) * light)
        return (
            min(255, int(far_r + (red - far_r) * clear)),
            min(255, int(far_g + (green - far_g) * clear)),
            min(255, int(far_b + (blue - far_b) * clear)),
        )

    def fill(self, points: Sequence[tuple[float, float]], color: tuple[int, ...], label: int) -> None:
        """A polygon on both canvases."""
        self.paper.polygon(points, fill=color)
        self.classes.polygon(points, fill=label)

    # Sky and ground: every pixel at once

    def _sky_and_ground(self) -> np.ndarray:
        picture = np.empty((self.height, self.width, 3), dtype=np.uint8)
        first = math.ceil(self.horizon)
        picture[:first] = self._sky(first)
        picture[first:] = self._ground(first)
        return picture

    def _sky(self, rows: int) -> np.ndarray:
        """Gradient and clouds at a quarter of the pixels; nothing up there is sharp."""
        height, width = rows // 2 + 1, self.width // 2
        above = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, None]  # 1 at the top, 0 at the horizon
        zenith, horizon, cloud = (np.array(color, np.float32) for color in dataclasses.astuple(self.mood)[:3])
        sky = horizon + (zenith - horizon) * (above**0.75)[:, :, None]
        sky = np.broadcast_to(sky, (height, width, 3)).copy()

        # The sun's glow, low at its side.
        across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        glow = np.exp(-(((across - 0.9 * self.sun_side) / 0.8) ** 2) - ((above - 0.25) / 0.5) ** 2) * 0.5
        sky += (np.array((255, 246, 224), np.float32) - sky) * glow[:, :, None]

        # A flat layer of clouds seen in perspective: smaller and denser towards the horizon.
        depth = 1.0 / (above + 0.4)
        noise = _soft_noise()
        shift = self.rng.integers(0, len(noise), 2)
        u = (depth * (across * width / height * 140) + shift[0]).astype(np.int32)
        v = np.broadcast_to((depth * 230 + shift[1]).astype(np.int32), u.shape)
        size = len(noise) - 1
        density = noise[v & size, u & size]
        lit = density - noise[(v - 7) & size, (u + int(9 * self.sun_side)) & size]
        cover = np.clip((density - (0.66 - 0.4 * self.mood.cloudiness)) * 4.2, 0, 1) * np.clip(above * 7, 0, 1)
        shade = np.clip(0.9 + 1.3 * lit, 0.68, 1.0)[:, :, None]
        sky += (cloud * shade - sky) * (cover * 0.92)[:, :, None]
        image = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))
        return np.asarray(image.resize((self.width, rows), Image.Resampling.BILINEAR))

    def _ground(self, first: int) -> np.ndarray:
        """Asphalt, kerb, paving stones and grass by their world coordinates, in the sun or in a shadow."""
        rows = np.arange(first, self.height, dtype=np.float32)[:, None] + 0.5
        z = self.focal * self.eye / np.maximum(rows - self.horizon, 0.25)
        x = (np.arange(self.width, dtype=np.float32)[None, :] + 0.5 - self.vanishing) * (
            z / self.focal
        ) + self.camera_x
        away = np.abs(x)
        near = np.clip(1.6 - z / 22, 0, 1)  # fine marks fade before they turn into noise

        noise, size = _soft_noise(), len(_soft_noise()) - 1
        shift = int(self.rng.integers(0, size))
        stain = noise[(z * 9).astype(np.int32) & size, (x * 26).astype(np.int32) + shift & size] - 0.5

        beyond = (away > self.front + 0.4) | ((away > self.front) & (z > self.end))
        surface = np.select(
            [away < self.road - 0.16, away < self.road, away < self.road + 0.24, ~beyond],
            [_ASPHALT, _GUTTER, _KERB, _PAVING],
            _GRASS,
        )
        ground, brightness = _GROUND[surface], 1.0 + _STAINS[surface] * stain
        tracks = np.exp(-(((away - self.road * 0.5) / 0.45) ** 2)) * (surface == _ASPHALT)
        joints = (((x * 1.25) % 1 < 0.06) | (z % 0.9 < 0.055)) & (surface == _PAVING)
        brightness -= 0.06 * tracks + 0.17 * joints * near

        dash = (away < 0.08) & ((z + 3) % 7 < 3.4)
        edge = np.abs(away - (self.road - 2.25)) < 0.05
        paint = (dash + edge * 0.65) * (np.clip(1.25 - z / 90, 0.25, 1) * (0.85 + stain * 0.5))
        ground += (np.array((236, 234, 226), np.float32) - ground) * paint[:, :, None]

        shadow = np.asarray(self._shadows(), dtype=np.float32)[first:, :, None] * np.float32(1 / 255)
        sun, shade = (np.array(factor, np.float32) for factor in (self.mood.sun, self.mood.shade))
        ground *= (sun + (shade * np.float32(0.88) - sun) * shadow) * brightness[:, :, None]
        clear = np.exp(-z / 190)[:, :, None]
        ground = np.array(self.mood.horizon, np.float32) * (1 - clear) + ground * clear
        return np.clip(ground, 0, 255).astype(np.uint8)

    def _shadows(self) -> Image.Image:
        """What stands between the sun and the ground, white on black; soft at the edge."""
        mask = Image.new("L", (self.width, self.height))
        pen = ImageDraw.Draw(mask)

        def lay(corners: Sequence[tuple[float, float]]) -> None:
            pen.polygon([self.project(x, 0, z) for x, z in corners], fill=255)

        fall = -self.sun_side  # shadows fall to the other side
        for house in self.houses:
            if house.side == self.sun_side:
                edge = house.side * self.front
                tip = edge + fall * min(0.62 * house.height, 2 * self.front)
                lay([(edge, house.near), (tip, house.near + 2), (tip, house.far + 2), (edge, house.far)])
        turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        for tree in self.trees:
            x, z = tree.x + fall * 0.62 * (tree.trunk + tree.radius), tree.z + 1.5
            bumps = tree.radius * self.rng.uniform(0.75, 1.15, len(turn))
            lay(list(zip(x + 1.2 * bumps * np.cos(turn), z + bumps * np.sin(turn), strict=True)))
            lay([(tree.x, tree.z), (tree.x, tree.z + 0.3), (x, z), (x, z - 0.3)])
        for car in self.cars:
            left, right = car.x - 0.95, car.x + 0.95
            left, right = left + min(0.0, fall * 0.9), right + max(0.0, fall * 0.9)
            lay([(left, car.z - 0.1), (right, car.z - 0.1), (right, car.z + car.length), (left, car.z + car.length)])
        return mask.filter(ImageFilter.BoxBlur(self.height / 256))

    def _label_ground(self) -> None:
        """The same borders as in `_ground`, as polygons."""
        far = 4000.0
        bottom = [(0.0, self.height), (0.0, self.horizon), (self.width, self.horizon), (self.width, self.height)]
        self.classes.polygon(bottom, fill=HILL)
        for reach, near, away in ((self.front + 0.4, 0.7, self.end), (self.front, 0.7, far), (self.road, 0.7, far)):
            corners = [(-reach, near), (-reach, away), (reach, away), (reach, near)]
            self.classes.polygon([self.project(x, 0, z) for x, z in corners], fill=ROAD)

    # Things that stand

    def _paint_hills(self) -> None:
        """Ridges behind each other, the far ones higher and bluer; a line of far trees at their foot."""
        rng, count = self.rng, 48
        columns = np.linspace(0, self.width, count)
        for layer, (lift, tone) in enumerate(((0.16, (84, 122, 134)), (0.1, (80, 126, 88)), (0.045, (78, 118, 56)))):
            phase = rng.uniform(0, 2 * np.pi, 4)
            waves = sum(np.sin(columns / self.width * (3.1 + 2.7 * n) + phase[n]) / (n + 1.2) for n in range(4))
            ridge = self.horizon - self.height * lift * (1 + 0.42 * waves) + rng.normal(0, self.height / 700, count)
            points = [
                (0.0, self.horizon + 2),
                *zip(columns.tolist(), ridge.tolist(), strict=True),
                (float(self.width), self.horizon + 2),
            ]
            self.fill(points, self.lit(_vary(tone, rng, 5), 0.75, 150 - 60 * layer), HILL)
        size = self.height / 75
        for column in np.arange(0, self.width, size * 0.8):
            radius = size * rng.uniform(0.6, 1.5)
            row = self.horizon - radius * 0.5
            tone = self.lit(_vary((70, 98, 52), rng, 9), rng.uniform(0.3, 0.9), 70)
            self._disc(float(column), row, radius, radius * 0.9, tone, TREE)

    def _disc(self, column: float, row: float, across: float, down: float, color: tuple[int, ...], label: int) -> None:
        box = (column - across, row - down, column + across, row + down)
        self.paper.ellipse(box, fill=color)
        self.classes.ellipse(box, fill=label)

    def _paint_house(self, house: _House) -> None:
        x, light = house.side * self.front, 0.1 if house.side == self.sun_side else 0.92
        self._paint_gable(house, x)
        if house.roof is not None:
            eaves, ridge = (x, house.height), (x + house.side * 3.4, house.height + 2.6)
            corners = [(*eaves, house.near), (*ridge, house.near), (*ridge, house.far), (*eaves, house.far)]
            self.fill([self.project(*corner) for corner in corners], self.lit(house.roof, light, house.far), FACADE)
        plinth = [level * 0.66 for level in house.wall]
        trim = [level * house.trim for level in house.wall]
        # In four pieces, so that haze changes along the wall.
        edges = np.linspace(house.near, house.far, 5).tolist()
        for start, stop in itertools.pairwise(edges):
            self._wall(house, (start, stop), (0.0, house.height), house.wall, light, FACADE)
            self._wall(house, (start, stop), (0.0, 0.55), plinth, light, FACADE)
            self._wall(house, (start, stop), (3.0, 3.2), trim, light, FACADE)
            self._wall(house, (start, stop), (house.height - 0.34, house.height - 0.2), plinth, light, FACADE)
            self._wall(house, (start, stop), (house.height - 0.2, house.height), trim, light, FACADE)
        if house.near < 22:  # courses of bricks, where they are large enough to be seen
            for up in np.arange(0.3, house.height, 0.3).tolist():
                ends = (*self.project(x, up, house.near), *self.project(x, up, house.far))
                self.paper.line(ends, fill=(30, 24, 26, 20))
        self._paint_openings(house, light, trim)
        # Light from the open sky is missing near the ground.
        for top, alpha in ((0.5, 34), (1.2, 22)):
            self._veil(house, (house.near, house.far), (0.0, top), alpha)

    def _paint_gable(self, house: _House, x: float) -> None:
        """The narrow side that looks at the camera; seen where there is a gap or a lower neighbour."""
        z, out, light = house.near, house.side * (self.front + 9.0), 0.42
        corners = [(x, 0.0), (x, house.height), (out, house.height), (out, 0.0)]
        if house.roof is not None:
            corners.insert(2, (x + house.side * 3.4, house.height + 2.6))
        self.fill([self.project(*corner, z) for corner in corners], self.lit(house.wall, light, z), FACADE)
        for storey in range(house.storeys):
            for step in (2.0, 4.8):
                left, low = x + house.side * step, storey * 3.1 + 1.1
                for edge, color in ((0.0, (228, 224, 214)), (0.09, (70, 84, 104))):
                    near, far = left + house.side * edge, left + house.side * (1.05 - edge)
                    pane = [(near, low + edge), (near, low + 1.5 - edge), (far, low + 1.5 - edge), (far, low + edge)]
                    self.fill([self.project(*corner, z) for corner in pane], self.lit(color, light, z), WINDOW)

    def _paint_openings(self, house: _House, light: float, trim: Sequence[float]) -> None:
        """A grid of windows; one door, and shop windows in some ground floors."""
        rng, pitch = self.rng, (house.far - house.near) / house.columns
        half = min(0.62, pitch * 0.25)
        door = int(rng.integers(house.columns))
        glass = _vary((64, 80, 102), rng, 12)
        wood = _vary((88, 60, 44), rng, 16)
        for storey in range(house.storeys):
            for column in range(house.columns):
                middle = house.near + (column + 0.5) * pitch
                if middle < 1.2:
                    continue
                if storey == 0 and column == door:
                    self._wall(house, (middle - 0.62, middle + 0.62), (0.0, 2.5), trim, light, FACADE)
                    self._wall(house, (middle - 0.5, middle + 0.5), (0.0, 2.35), wood, light, FACADE)
                elif storey == 0 and house.shop:
                    self._paint_window(house, middle, pitch * 0.4, (0.6, 2.7), light, trim, glass)
                else:
                    low = storey * 3.1 + 1.0
                    self._paint_window(house, middle, half, (low, low + 1.6), light, trim, glass)

    def _paint_window(
        self,
        house: _House,
        middle: float,
        half: float,
        span: tuple[float, float],
        light: float,
        trim: Sequence[float],
        glass: tuple[float, float, float],
    ) -> None:
        """Surround (facade), frame, glass that mirrors the sky; near the camera bars, a curtain, shadows."""
        rng, (low, high), (start, stop) = self.rng, span, (middle - half, middle + half)
        white = (228, 224, 214)
        self._wall(house, (start - 0.14, stop + 0.14), (low - 0.14, high + 0.2), trim, light, FACADE)
        self._wall(house, (start, stop), (low, high), white, light, WINDOW)
        inside, low, high = (start + 0.07, stop - 0.07), low + 0.07, high - 0.07
        self._wall(house, inside, (low, high), glass, 0.35 + 0.4 * light, WINDOW)
        bright, split = 0.25 + 0.5 * light * rng.random(), low + (high - low) * rng.uniform(0.35, 0.7)
        curtain = rng.uniform(0.2, 0.45) if rng.random() < 0.35 else 0.0
        if middle > 45:
            return
        sky = [dark + (far - dark) * bright for dark, far in zip(glass, self.mood.horizon, strict=True)]
        self._wall(house, inside, (split, high), sky, 0.9, WINDOW)
        if middle > 30:
            return
        if curtain:
            self._wall(house, (inside[0], start + 2 * half * curtain), (low, high), (206, 198, 184), light, WINDOW)
        self._wall(house, (middle - 0.035, middle + 0.035), (low, high), white, light, WINDOW)
        transom = (low + 2 * high) / 3
        self._wall(house, inside, (transom - 0.03, transom + 0.03), white, light, WINDOW)
        self._veil(house, (start, stop), (high - 0.1, high + 0.07), 70)
        self._veil(house, (start - 0.14, stop + 0.14), (low - 0.37, low - 0.21), 56)

    def _wall(
        self,
        house: _House,
        along: tuple[float, float],
        up: tuple[float, float],
        color: Sequence[float],
        light: float,
        label: int,
    ) -> None:
        """A rectangle on the street side of a house: from z to z, from height to height."""
        self.fill(self._on_wall(house, along, up), self.lit(color, light, (along[0] + along[1]) / 2), label)

    def _veil(self, house: _House, along: tuple[float, float], up: tuple[float, float], alpha: int) -> None:
        """The same rectangle as a soft shadow (0 = none, 255 = black)."""
        self.paper.polygon(self._on_wall(house, along, up), fill=(18, 20, 32, alpha))

    def _on_wall(
        self, house: _House, along: tuple[float, float], up: tuple[float, float]
    ) -> list[tuple[float, float]]:
        x = house.side * self.front
        return [
            self.project(x, up[0], along[0]),
            self.project(x, up[1], along[0]),
            self.project(x, up[1], along[1]),
            self.project(x, up[0], along[1]),
        ]

    def _paint_tree(self, tree: _Tree) -> None:
        """A trunk, then leaves on a few round boughs, from the dark inside to the bright side of the sun."""
        rng, z = self.rng, tree.z
        foot, crown = self.project(tree.x, 0, z), self.project(tree.x, tree.trunk + tree.radius * 0.75, z)
        radius, thick = self.size_at(tree.radius, z), self.size_at(0.13, z)
        for left, right, color, light in ((-1.3, 1.3, (84, 68, 54), 0.3), (-0.2, 0.9, (112, 94, 74), 0.8)):
            near, far = sorted((left * self.sun_side * thick, right * self.sun_side * thick))
            bark = [
                (foot[0] + near, foot[1]),
                (crown[0] + near * 0.5, crown[1]),
                (crown[0] + far * 0.5, crown[1]),
                (foot[0] + far, foot[1]),
            ]
            self.fill(bark, self.lit(color, light, z), TREE)

        # Boughs around the middle; leaves spread over each.
        boughs = int(rng.integers(6, 10))
        turn = np.arange(boughs) * 2 * np.pi / boughs + rng.uniform(0, 1, boughs)
        heart = np.stack([np.cos(turn), np.sin(turn) * 0.86], axis=1) * rng.uniform(0.4, 0.66, (boughs, 1))
        heart = np.vstack([[[0.0, 0.0]], heart])
        reach = np.r_[0.62, rng.uniform(0.32, 0.5, boughs)]
        dark = self.lit([level * 0.6 for level in tree.green], 0.15, z)
        for (across, down), spread in zip(heart * radius, reach * radius * 0.8, strict=True):
            self._disc(crown[0] + across, crown[1] + down, spread, spread * 0.9, dark, TREE)

        count = int(np.clip(radius * 3.6, 24, 900))
        bough = rng.integers(0, boughs + 1, count)
        angle, out = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0, 1.1, count))
        offset = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (out * reach[bough])[:, None]
        place = heart[bough] + offset
        # Towards the light: of the whole crown, and of the leaf's own bough.
        facing = place @ (0.35 * self.sun_side, -0.5) + offset @ (0.5 * self.sun_side, -0.9)
        tone = np.clip(0.46 + 0.55 * facing + rng.normal(0, 0.14, count), 0, 1)
        size = np.maximum(1.2, self.size_at(1.0, z) * rng.uniform(0.07, 0.17, count))
        for leaf in np.argsort(facing + rng.normal(0, 0.25, count)).tolist():
            green = [level * (0.62 + 0.66 * tone[leaf]) for level in tree.green]
            column, row = crown[0] + place[leaf, 0] * radius, crown[1] + place[leaf, 1] * radius
            self._disc(column, row, size[leaf], size[leaf] * 0.75, self.lit(green, tone[leaf], z), TREE)

    def _paint_car(self, car: _Car) -> None:
        """A body and a cabin: the faces that the camera sees, from far to near."""
        left, right, near, far = car.x - 0.88, car.x + 0.88, car.z, car.z + car.length
        side, inward = (left, 0.14) if car.x > self.camera_x else (right, -0.14)
        light = 0.85 if (side == left) == (self.sun_side < 0) else 0.22
        waist, top, paint = 0.88, car.height, car.paint
        dark, glass = [level * 0.5 for level in paint], (52, 62, 76)
        # Seen from behind: a short tail, the hood far away. Oncoming: the other way round.
        shares = (0.14, 0.27, 0.57, 0.73) if car.rear else (0.27, 0.43, 0.73, 0.86)
        tail, screen, brow, hood = (near + share * car.length for share in shares)
        inset, edges = side + inward, (left + 0.14, right - 0.14)

        def face(color: Sequence[float], light: float, *corners: tuple[float, float, float]) -> None:
            self.fill([self.project(*corner) for corner in corners], self.lit(color, light, near), CAR)

        def plate(color: Sequence[float], light: float, low: float, high: float, start: float, stop: float) -> None:
            face(color, light, (start, low, near), (start, high, near), (stop, high, near), (stop, low, near))

        plate((22, 22, 26), 0.2, 0.02, 0.3, left, right)
        face(
            paint, 0.95, (left, waist, hood), (right, waist, hood), (right, waist - 0.1, far), (left, waist - 0.1, far)
        )
        face(dark, light, (side, waist, tail), (inset, top, screen), (inset, top, brow), (side, waist, hood))
        for start, stop in ((0.1, 0.47), (0.53, 0.9)):
            low, high = (tail, hood - tail, waist + 0.03, side), (screen, brow - screen, top - 0.07, inset)
            pane = [
                (x, up, first + length * share)
                for (first, length, up, x), share in ((low, start), (high, start), (high, stop), (low, stop))
            ]
            face(glass, 0.4 + 0.5 * light, *pane)
        roof = [min(255.0, level * 1.1 + 10) for level in paint]
        face(
            roof,
            1.0,
            *((x, top, z) for x, z in zip((*edges, *edges[::-1]), (screen, screen, brow, brow), strict=True)),
        )
        face(paint, 0.92, (left, waist, near), (right, waist, near), (right, waist, tail), (left, waist, tail))
        face(dark, 0.6, (left, waist, tail), (right, waist, tail), (edges[1], top, screen), (edges[0], top, screen))
        low_edges, high_edges = (left + 0.14, right - 0.14), (edges[0] + 0.07, edges[1] - 0.07)
        face(
            (98, 116, 134),
            0.75,
            *((x, waist + 0.06, tail + 0.02) for x in low_edges),
            *((x, top - 0.07, screen - 0.02) for x in high_edges[::-1]),
        )
        nose = waist if car.rear else waist - 0.02
        outline = [(0.24, near), (nose, near), (waist, tail), (waist, hood), (waist - 0.1, far), (0.24, far)]
        face(paint, light, *((side, up, z) for up, z in outline))
        face(dark, light, (side, 0.24, near), (side, 0.4, near), (side, 0.4, far), (side, 0.24, far))
        self._paint_wheels(car, side)

        plate(paint, 0.5, 0.24, waist, left, right)
        plate(dark, 0.5, 0.24, 0.44, left, right)
        lamp, inner = ((196, 34, 30), 0.36) if car.rear else ((252, 246, 224), 0.3)
        plate(lamp, 0.9, 0.6, 0.78, left + 0.04, left + inner)
        plate(lamp, 0.9, 0.6, 0.78, right - inner, right - 0.04)
        if not car.rear:
            plate((40, 42, 48), 0.5, 0.54, 0.76, left + 0.4, right - 0.4)
        plate((226, 222, 206), 0.7, 0.46, 0.57, car.x - 0.26, car.x + 0.26)
        for start in (left + 0.06, right - 0.3):
            plate((28, 28, 32), 0.3, 0.0, 0.26, start, start + 0.24)

    def _paint_wheels(self, car: _Car, side: float) -> None:
        turn = np.linspace(0, 2 * np.pi, 16, endpoint=False).tolist()
        for axle in (car.z + 0.19 * car.length, car.z + 0.8 * car.length):
            for radius, tone in ((0.33, (26, 26, 30)), (0.18, (150, 152, 156))):
                rim = [
                    self.project(side, 0.33 + radius * math.sin(angle), axle + radius * math.cos(angle))
                    for angle in turn
                ]
                self.fill(rim, self.lit(tone, 0.45, axle), CAR)


def _pick(rng: np.random.Generator, colors: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    return colors[int(rng.integers(len(colors)))]


def _vary(color: Sequence[float], rng: np.random.Generator, spread: float) -> tuple[float, float, float]:
    """A neighbouring colour: brightness changes more than hue."""
    shift = rng.normal(0, spread) + rng.normal(0, spread / 3, 3)
    red, green, blue = np.clip(np.asarray(color) + shift, 0, 255).tolist()
    return red, green, blue


@functools.cache
def _soft_noise(size: int = 512) -> np.ndarray:
    """Fractal noise that tiles, in 0 to 1: clouds, stains."""
    rng = np.random.default_rng(20200823)
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(2, 8):
        cells = 1 << octave
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        wrapped = np.pad(grid, 2, mode="wrap")
        step = size // cells
        enlarged = Image.fromarray(wrapped).resize((step * (cells + 4),) * 2, Image.Resampling.BICUBIC)
        total += np.asarray(enlarged)[2 * step : -2 * step, 2 * step : -2 * step] * 0.6 ** (octave - 2)
    return np.clip(total / (4 * total.std()) + 0.5, 0, 1)


@functools.cache
def _fine_noise(size: int = 512) -> np.ndarray:
    """Grain of one to three pixels, mean 0, deviation 1."""
    rng = np.random.default_rng(20200824)
    white = rng.standard_normal((size, size)).astype(np.float32)
    soft = (white + np.roll(white, 1, 0) + np.roll(white, 1, 1) + np.roll(white, (1, 1), (0, 1))) / 2
    grain = 0.6 * rng.standard_normal((size, size)).astype(np.float32) + soft
    return grain / grain.std()


def _tile(rng: np.random.Generator, noise: np.ndarray, height: int, width: int) -> np.ndarray:
    """A random piece of endless noise."""
    top, left = rng.integers(0, len(noise), 2)
    rows, columns = (top + np.arange(height)) % len(noise), (left + np.arange(width)) % len(noise)
    return noise[np.ix_(rows, columns)]
