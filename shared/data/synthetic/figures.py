"""People-like figures: a jointed body in varied clothes, builds, views and poses."""

import math
from dataclasses import dataclass

import numpy as np

from shared.data.synthetic.colours import cloth, hair, skin, tinted
from shared.data.synthetic.sprites import Colour, Pen, Point, Sprite, shade

# Heights of the joints above the ground, as parts of the body's height (adult; children differ in the head).
HIP, SHOULDER, CHIN = 0.49, 0.81, 0.86
THIGH, SHIN, UPPER_ARM, FOREARM = 0.24, 0.235, 0.165, 0.16


@dataclass(frozen=True, slots=True)
class Wardrobe:
    """The colours and cuts that one figure wears."""

    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    shoes: Colour
    cut: str  # trousers, shorts, skirt or coat
    hat: str  # none, cap, hood or helmet
    load: str  # none, backpack, bag or case
    load_colour: Colour
    long_sleeves: bool


def draw_figure(height_px: float, rng: np.random.Generator) -> Sprite:
    """Draw one standing or walking figure about `height_px` tall; the sprite is cropped to it."""
    margin = 4
    pen = Pen(round(height_px * 1.3) + 2 * margin, round(height_px * 1.3) + 2 * margin)
    foot = (pen.mask.shape[1] / 2, pen.mask.shape[0] - margin - 0.08 * height_px)
    body = _Body(pen, foot, height_px, rng)
    body.draw()
    return shade(pen.finish(foot[0]), rng)


def _wardrobe(rng: np.random.Generator) -> Wardrobe:
    top = cloth(rng)
    cut = rng.choice(["trousers", "shorts", "skirt", "coat"], p=[0.6, 0.12, 0.12, 0.16])
    return Wardrobe(
        skin=skin(rng),
        hair=hair(rng),
        top=top,
        bottom=tinted(top, rng) if rng.random() < 0.15 else cloth(rng),
        shoes=cloth(rng, darker=True),
        cut=str(cut),
        hat=str(rng.choice(["none", "cap", "hood", "helmet"], p=[0.72, 0.12, 0.1, 0.06])),
        load=str(rng.choice(["none", "backpack", "bag", "case"], p=[0.6, 0.16, 0.16, 0.08])),
        load_colour=cloth(rng),
        long_sleeves=bool(rng.random() < 0.65),
    )


class _Body:
    """One figure's pose and measures while it is drawn. Unit coordinates: x right, y up, height 1."""

    def __init__(self, pen: Pen, foot: Point, height_px: float, rng: np.random.Generator) -> None:
        self.pen, self.foot, self.height_px, self.rng = pen, foot, height_px, rng
        self.wear = _wardrobe(rng)
        self.view = str(rng.choice(["front", "back", "side"], p=[0.35, 0.3, 0.35]))
        self.facing = int(rng.choice([-1, 1]))
        build = rng.uniform(0.85, 1.25)
        is_side = self.view == "side"
        self.shoulder_half = (0.065 if is_side else 0.118) * build
        self.hip_half = (0.06 if is_side else 0.082) * build
        self.limb = rng.uniform(0.85, 1.2) * math.sqrt(build)
        child = rng.random() < 0.15
        self.head = rng.uniform(0.085, 0.1) if child else rng.uniform(0.062, 0.074)  # half of its height
        lean_deg = rng.uniform(-20, 20) if rng.random() < 0.1 else rng.uniform(-6, 6)
        self.lean = math.radians(lean_deg)
        self.stride = rng.uniform(0.15, 0.55) if is_side and rng.random() < 0.75 else rng.uniform(0, 0.12)

    def draw(self) -> None:
        """Draw from the far side to the near side."""
        far, near = -self.facing, self.facing
        if self.wear.load == "backpack" and self.view != "back":
            self._backpack()
        self._arm(far)
        self._leg(far, shade_factor=0.85)
        self._leg(near, shade_factor=1.0)
        self._torso()
        if self.wear.load == "backpack" and self.view == "back":
            self._backpack()
        self._head()
        self._arm(near)

    def _at(self, x: float, y: float) -> Point:
        """Lean about the feet, then go to pixels."""
        leaning_x = x * math.cos(self.lean) + y * math.sin(self.lean)
        leaning_y = y * math.cos(self.lean) - x * math.sin(self.lean)
        return self.foot[0] + leaning_x * self.height_px, self.foot[1] - leaning_y * self.height_px

    def _stroke(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        self.pen.limb(self._at(*start), self._at(*end), width * self.limb * self.height_px, colour)

    def _leg(self, side: int, shade_factor: float) -> None:
        is_side = self.view == "side"
        hip = (side * self.hip_half * (0.2 if is_side else 0.55), HIP)
        swing = side * self.stride if is_side else side * self.rng.uniform(0, 0.1)
        bend = self.rng.uniform(0, 0.5) * (self.stride if swing * self.facing < 0 else 0.15)
        knee = (hip[0] + THIGH * math.sin(swing), hip[1] - THIGH * math.cos(swing))
        shin_angle = swing - self.facing * bend if is_side else swing * 0.3
        ankle = (knee[0] + SHIN * math.sin(shin_angle), knee[1] - SHIN * math.cos(shin_angle))
        bare = self.wear.cut in ("shorts", "skirt")
        upper = _dim(self.wear.bottom if self.wear.cut != "skirt" else self.wear.skin, shade_factor)
        lower = _dim(self.wear.skin if bare else self.wear.bottom, shade_factor)
        self._stroke(knee, ankle, 0.058, lower)
        self._stroke(hip, knee, 0.085, upper)
        toe = (
            ankle[0] + (self.facing * 0.05 if is_side else side * 0.015),
            ankle[1] - (0.0 if is_side else 0.02),
        )
        self._stroke(ankle, toe, 0.05, _dim(self.wear.shoes, shade_factor))

    def _torso(self) -> None:
        shoulder, hip = self.shoulder_half, self.hip_half
        top = self.wear.top
        collar, slope = shoulder * 0.6, SHOULDER - 0.03
        outline = [(-shoulder, slope), (-collar, SHOULDER + 0.02), (collar, SHOULDER + 0.02),
                   (shoulder, slope), (hip, HIP), (-hip, HIP)]  # fmt: skip
        if self.wear.cut == "skirt":
            flare = hip * self.rng.uniform(1.2, 1.9)
            hem = self.rng.uniform(0.24, 0.36)
            self._fill([(-hip, HIP + 0.04), (hip, HIP + 0.04), (flare, hem), (-flare, hem)], self.wear.bottom)
        else:
            self._fill([(-hip, HIP + 0.06), (hip, HIP + 0.06), (hip, HIP - 0.06), (-hip, HIP - 0.06)],
                       self.wear.bottom)  # fmt: skip
        self._stroke((0, SHOULDER), (0, CHIN + 0.02), 0.055, self.wear.skin)
        self._fill(outline, top)
        if self.wear.cut == "coat":
            flare, hem = hip * self.rng.uniform(1.05, 1.4), self.rng.uniform(0.24, 0.42)
            self._fill([(-hip, HIP + 0.05), (hip, HIP + 0.05), (flare, hem), (-flare, hem)], top)
        self._pattern(shoulder, top)

    def _pattern(self, shoulder: float, top: Colour) -> None:
        """Stripes, a panel or nothing on the chest."""
        kind = self.rng.random()
        if kind < 0.15:
            stripe = tinted(top, self.rng)
            for y in np.arange(HIP + 0.04, SHOULDER - 0.03, self.rng.uniform(0.04, 0.07)):
                self._stroke((-shoulder * 0.75, float(y)), (shoulder * 0.75, float(y)), 0.014, stripe)
        elif kind < 0.3 and self.view == "front":
            panel = cloth(self.rng)
            self._fill(
                [(-0.02, SHOULDER), (0.02, SHOULDER), (0.025, HIP + 0.02), (-0.025, HIP + 0.02)], panel
            )

    def _fill(self, points: list[Point], colour: Colour) -> None:
        self.pen.polygon([self._at(*point) for point in points], colour)

    def _arm(self, side: int) -> None:
        is_side = self.view == "side"
        start = (side * self.shoulder_half * (0.15 if is_side else 0.92), SHOULDER - 0.035)
        pose = self.rng.random()
        out = self.facing if is_side else side
        upper = side * -self.stride * 0.9 if is_side else side * self.rng.uniform(0.03, 0.25)
        fore = upper + out * self.rng.uniform(0, 0.3)
        if pose < 0.1:  # a hand at the head, as with a telephone
            upper, fore = out * 0.5, out * self.rng.uniform(2.4, 2.9) * (1 if is_side else -1)
        elif pose < 0.16:  # raised
            upper, fore = out * self.rng.uniform(1.3, 2.6), out * self.rng.uniform(2.2, 3.0)
        elif pose < 0.26:  # bent, carrying something in front
            upper, fore = out * 0.15, (self.facing if is_side else -side) * self.rng.uniform(1.0, 1.7)
        elbow = (start[0] + UPPER_ARM * math.sin(upper), start[1] - UPPER_ARM * math.cos(upper))
        hand = (elbow[0] + FOREARM * math.sin(fore), elbow[1] - FOREARM * math.cos(fore))
        sleeve = _dim(self.wear.top, 0.9)
        self._stroke(elbow, hand, 0.046, sleeve if self.wear.long_sleeves else self.wear.skin)
        self._stroke(start, elbow, 0.056, sleeve)
        self.pen.ellipse(self._at(*hand), (0.024 * self.height_px,) * 2, self.wear.skin)
        if side == self.facing and self.wear.load in ("bag", "case") and pose >= 0.26:
            self._carried(hand)

    def _carried(self, hand: Point) -> None:
        tall, wide = (0.13, 0.06) if self.wear.load == "bag" else (0.12, 0.1)
        left, right, top = hand[0] - wide, hand[0] + wide, hand[1] - 0.02
        self._fill(
            [(left, top), (right, top), (right, top - tall), (left, top - tall)], self.wear.load_colour
        )

    def _backpack(self) -> None:
        centre = -self.facing * (self.shoulder_half + 0.02) if self.view == "side" else 0.0
        half = 0.055 if self.view == "side" else self.shoulder_half * 0.8
        self._fill([(centre - half, SHOULDER), (centre + half, SHOULDER), (centre + half, HIP + 0.08),
                    (centre - half, HIP + 0.08)], self.wear.load_colour)  # fmt: skip

    def _head(self) -> None:
        half = self.head
        turn = self.facing * 0.02 if self.view == "side" else 0.0
        centre = self._at(turn, CHIN + half)
        axes = (half * (0.86 if self.view == "side" else 0.76) * self.height_px, half * self.height_px)
        tilt = math.degrees(self.lean)
        self.pen.ellipse(centre, axes, self.wear.skin, angle=tilt)
        covering = self.wear.hair if self.wear.hat == "none" else self.wear.load_colour
        if self.view == "back":
            self.pen.ellipse(centre, axes, covering, angle=tilt)
        elif self.view == "side":
            start, end = (60, 290) if self.facing > 0 else (-110, 120)
            self.pen.ellipse(centre, axes, covering, angle=tilt, arc=(start, end))
        else:
            self.pen.ellipse(centre, axes, covering, angle=tilt, arc=(185, 355))
        if self.wear.hat == "cap" and self.view != "back":
            brim = self._at(turn + self.facing * half * 1.3, CHIN + half * 1.35)
            self.pen.limb(self._at(turn, CHIN + half * 1.4), brim, half * 0.35 * self.height_px, covering)
        elif self.wear.hat == "hood":
            self.pen.ellipse(
                self._at(turn, CHIN + half * 1.05), (axes[0] * 1.15, axes[1] * 1.1), self.wear.top
            )
            if self.view != "back":
                face = self._at(turn + (self.facing * half * 0.3 if self.view == "side" else 0), CHIN + half)
                self.pen.ellipse(face, (axes[0] * 0.7, axes[1] * 0.8), self.wear.skin)
        elif self.view != "side" and self.rng.random() < 0.25:  # long hair
            crown = CHIN + half
            for side in (-1, 1):
                self._stroke((side * half * 0.65, crown), (side * half * 0.7, CHIN - 0.04), 0.025, covering)


def _dim(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor
