"""Procedural faces: an endless, machine-independent image distribution whose posterior is known.

Each face is drawn from *visible* latents, all of which show in the lower rows that inpainting
keeps (skin, jaw, neck, clothes, background, light), and *hidden* ones (hair, eyes, glasses, mouth,
…) that never touch those rows and are independent of the visible ones. The visible latents can be
read off the known rows, so p(X | Y) (Sec. 2) is: keep them, redraw the hidden ones.

Shapes are signed distances with edges one pixel wide, painted back to front. Only +, −, ×, ÷, √,
floor, minimum and maximum touch a pixel, one operation at a time: IEEE arithmetic rounds each of
them correctly, so that an image does not depend on the batch it is drawn in.

Canvas coordinates: x from −1 (left) to 1 (right), y from −1 (top) to 1 (bottom).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from stochrestore.errors import require


@dataclass(frozen=True)
class Latent:
    """One drawn property of a face.

    Args:
        name: what it is.
        classes: names of the classes of a categorical latent; none for a continuous one.
        weights: probabilities of the classes, in the same order.
    """

    name: str
    classes: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()


def _choice(name: str, **weights: float) -> Latent:
    return Latent(name, tuple(weights), tuple(weights.values()))


def _continuous(names: str) -> tuple[Latent, ...]:
    return tuple(Latent(name) for name in names.split())


VISIBLE: tuple[Latent, ...] = (
    *_continuous("skin undertone light position face_width chin jaw taper neck shoulders"),
    *_continuous("background background_tone background_shift background_slant"),
    *_continuous("clothes clothes_tone"),
    _choice("neckline", crew=0.25, v_neck=0.25, collar=0.25, turtleneck=0.25),
    _choice("pattern", plain=0.5, stripes=0.25, yoke=0.25),
)
HIDDEN: tuple[Latent, ...] = (
    _choice(
        "hair",
        bald=0.06,
        balding=0.07,
        buzz=0.07,
        short=0.12,
        bowl=0.1,
        parted=0.12,
        bob=0.11,
        long=0.11,
        curly=0.09,
        mohawk=0.05,
        bun=0.05,
        pigtails=0.05,
    ),
    _choice(
        "hair_colour",
        black=0.2,
        brown=0.17,
        chestnut=0.13,
        ginger=0.13,
        blond=0.17,
        grey=0.1,
        pink=0.05,
        blue=0.05,
    ),
    _choice("eye_colour", brown=0.3, green=0.25, blue=0.3, grey=0.15),
    _choice("glasses", none=0.55, round=0.17, square=0.15, sun=0.13),
    _choice("moustache", none=0.74, thin=0.13, bushy=0.13),
    _choice("whiskers", none=0.85, chops=0.15),
    _choice("hat", none=0.72, beanie=0.1, cap=0.09, band=0.09),
    _choice("backdrop", none=0.35, sun=0.2, picture=0.2, bokeh=0.25),
    _choice("skin_marks", none=0.75, freckles=0.25),
    _choice("earrings", none=0.8, gold=0.2),
    *_continuous("hair_shade volume hairline part eye_size eye_gap gaze_x gaze_y eyelid"),
    *_continuous("brow_angle brow_height brow_weight nose_width nose_length"),
    *_continuous("smile mouth_width mouth_open lip blush hat_colour frame_colour"),
    *_continuous("backdrop_x backdrop_y backdrop_colour"),
)

_DRAWS = len(VISIBLE) + len(HIDDEN)
_BLOCKS = -(-_DRAWS // 4)  # Philox gives four 64-bit words a counter value

# Colours, one row each; continuous palettes are interpolated between their rows.
_SKIN = ((1.0, 0.87, 0.76), (0.95, 0.75, 0.6), (0.8, 0.57, 0.41), (0.56, 0.36, 0.25), (0.36, 0.22, 0.16))  # fmt: skip
_HAIR = ((0.1, 0.085, 0.09), (0.3, 0.18, 0.11), (0.47, 0.24, 0.12), (0.78, 0.34, 0.1),
         (0.93, 0.75, 0.38), (0.74, 0.74, 0.76), (0.93, 0.42, 0.62), (0.25, 0.45, 0.85))  # fmt: skip
_IRIS = ((0.33, 0.18, 0.08), (0.2, 0.5, 0.25), (0.2, 0.45, 0.8), (0.45, 0.52, 0.58))
_FRAME = ((0.08, 0.08, 0.1), (0.4, 0.2, 0.1), (0.65, 0.1, 0.15), (0.75, 0.6, 0.25))

# How each hair style is cut: how far it stands off the head, where the hairline lies above the
# brows, how far the hair comes down beside the temples, how much the parting slants.
_CUT = {
    #            off  line  sides slant
    "bald":     (0.00, -2.0, 0.00, 0.0),
    "balding":  (0.00, -2.0, 0.00, 0.0),
    "buzz":     (0.02, -0.39, 0.30, 0.0),
    "short":    (0.08, -0.37, 0.28, 0.06),
    "bowl":     (0.10, -0.24, 0.22, 0.0),
    "parted":   (0.10, -0.36, 0.26, 0.26),
    "bob":      (0.12, -0.27, 0.34, 0.08),
    "long":     (0.10, -0.40, 0.50, 0.12),
    "curly":    (0.08, -0.34, 0.30, 0.0),
    "mohawk":   (0.00, -2.0, 0.00, 0.0),
    "bun":      (0.05, -0.40, 0.26, 0.0),
    "pigtails": (0.07, -0.36, 0.30, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Latents:
    """Raw uniforms in [0, 1) from which N faces are drawn.

    Args:
        visible: (N, V), in the order of :data:`VISIBLE`.
        hidden: (N, H), in the order of :data:`HIDDEN`.
    """

    visible: Tensor
    hidden: Tensor

    def __len__(self) -> int:
        return len(self.visible)

    def __getitem__(self, index: slice | Tensor) -> Latents:
        return Latents(self.visible[index], self.hidden[index])


class Faces:
    """The distribution of procedural faces at one size.

    Args:
        size: S, side of the image in pixels, a multiple of 4, at least 8.
        known_rows: how many of the lower rows the visible latents alone determine; S/4 unless
            given.

    Raises:
        InputError: size not such a multiple, or known_rows outside [1, S − 1].
    """

    def __init__(self, size: int = 64, known_rows: int | None = None) -> None:
        require(size >= 8 and size % 4 == 0, "Faces: size", size, "a multiple of 4, at least 8")
        self.size = size
        self.known_rows = size // 4 if known_rows is None else known_rows
        allowed = f"an integer in [1, {size - 1}]"
        require(0 < self.known_rows < size, "Faces: known_rows", known_rows, allowed)

    def latents(self, seed: int, start: int, stop: int) -> Latents:
        """Latents of images start … stop − 1 of a seed's endless sequence.

        They come from a counter (Philox), so that image i is the same on every machine, whatever
        else is drawn with it.

        Raises:
            InputError: seed outside [0, 2⁶⁴), or not 0 ≤ start ≤ stop.
        """
        require(0 <= seed < 2**64, "Faces.latents: seed", seed, "an integer in [0, 2⁶⁴)")
        require(
            0 <= start <= stop, "Faces.latents: (start, stop)", (start, stop), "0 ≤ start ≤ stop"
        )
        words = np.random.Philox(key=seed, counter=start * _BLOCKS)
        raw = words.random_raw((stop - start) * _BLOCKS * 4).reshape(stop - start, -1)[:, :_DRAWS]
        uniform = torch.from_numpy((raw >> 40).astype(np.float32) / np.float32(2**24))
        return Latents(*uniform.split([len(VISIBLE), len(HIDDEN)], dim=1))

    def render(self, latents: Latents) -> Tensor:
        """The faces, (N, 3, S, S), float32 in [0, 1], on the latents' device."""
        visible, hidden = _values(VISIBLE, latents.visible), _values(HIDDEN, latents.hidden)
        pixels = latents.visible.new_zeros(len(latents), 3, self.size, self.size)
        canvas = _Canvas.of(pixels)
        upper = canvas.rows(0, self.size - self.known_rows)  # all that hidden latents may touch
        head = _Head(visible, hidden)
        _background(canvas, visible)
        _backdrop(upper, hidden)
        _hair_behind(upper, head)
        _body(canvas, head)
        _ears(upper, head)
        _skin(canvas, head)
        for draw in (_cheeks, _nose, _mouth, _whiskers, _eyes, _brows, _hair_front, _glasses, _hat):
            draw(upper, head)
        return pixels.clamp_(0, 1)

    def images(self, seed: int, start: int, stop: int, *, batch: int = 256) -> Tensor:
        """Images start … stop − 1 of a seed's sequence, (stop − start, 3, S, S), in [0, 1]."""
        require(batch >= 1, "Faces.images: batch", batch, "an integer ≥ 1")
        latents = self.latents(seed, start, stop)
        images = torch.empty(stop - start, 3, self.size, self.size)
        for first in range(0, stop - start, batch):
            part = slice(first, first + batch)
            images[part] = self.render(latents[part])
        return images

    def posterior(self, latents: Latents, n: int, *, generator: torch.Generator) -> Tensor:
        """n exact samples of p(X | Y) for each face: (n, N, 3, S, S).

        The visible latents are kept, the hidden ones redrawn.
        """
        require(n >= 1, "Faces.posterior: n", n, "an integer ≥ 1")
        shape = (n, *latents.hidden.shape)
        hidden = torch.rand(shape, generator=generator, device=generator.device)
        draws = [Latents(latents.visible, h.to(latents.hidden.device)) for h in hidden]
        return torch.stack([self.render(draw) for draw in draws])

    def targets(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """What a network may be trained to read off the images.

        Returns:
            Continuous latents, (N, C), in [0, 1); class indices, (N, K), int64: visible ones
            first, each in the order of :data:`VISIBLE` and :data:`HIDDEN`.
        """
        table = torch.cat([latents.visible, latents.hidden], dim=1)
        columns = list(zip(VISIBLE + HIDDEN, table.unbind(1), strict=True))
        continuous = [u for latent, u in columns if not latent.classes]
        classes = [_class_index(latent, u) for latent, u in columns if latent.classes]
        return torch.stack(continuous, dim=1), torch.stack(classes, dim=1)


def _class_index(latent: Latent, u: Tensor) -> Tensor:
    edges = list(accumulate(latent.weights))[:-1]
    return (u[:, None] >= torch.tensor(edges, device=u.device)).sum(1)


class _Values(dict[str, Tensor]):
    """Latents by name, each (N, 1, 1): a number in [0, 1), or an index of a class."""

    def between(self, name: str, low: float, high: float) -> Tensor:
        """A continuous latent spread over [low, high)."""
        return low + (high - low) * self[name]

    def chosen(self, name: str, *classes: str) -> Tensor:
        """1 where a categorical latent is one of the classes, else 0."""
        latent = next(latent for latent in VISIBLE + HIDDEN if latent.name == name)
        indices = [latent.classes.index(c) for c in classes]
        return sum((self[name] == i).float() for i in indices)  # type: ignore[return-value]

    def looked_up(self, name: str, rows: tuple[tuple[float, ...], ...]) -> Tensor:
        """The row of a categorical latent's class, (N, columns, 1, 1)."""
        table = torch.tensor(rows, device=self[name].device)
        return table[self[name].flatten()][:, :, None, None]


def _values(names: tuple[Latent, ...], uniforms: Tensor) -> _Values:
    columns = zip(names, uniforms.unbind(1), strict=True)
    value = {n.name: _class_index(n, u) if n.classes else u for n, u in columns}
    return _Values({name: u[:, None, None] for name, u in value.items()})


def _palette(rows: tuple[tuple[float, ...], ...], t: Tensor) -> Tensor:
    """Linear interpolation between colours at t in [0, 1), (N, 1, 1): (N, 3, 1, 1)."""
    table = torch.tensor(rows, device=t.device)
    place = t.flatten() * (len(rows) - 1)
    low = place.floor().long()
    mixed = table[low] + (place - low)[:, None] * (table[low + 1] - table[low])
    return mixed[:, :, None, None]


def _hsv(hue: Tensor, saturation: Tensor | float, value: Tensor | float) -> Tensor:
    """RGB of a hue in turns: (N, 1, 1) each or numbers, to (N, 3, 1, 1)."""
    sixth = 6 * hue[:, None] + torch.tensor([0.0, 4.0, 2.0], device=hue.device)[:, None, None]
    sixth = sixth - 6 * (sixth / 6).floor()
    pure = ((sixth - 3).abs() - 1).clamp(0, 1)
    saturation, value = (v[:, None] if isinstance(v, Tensor) else v for v in (saturation, value))
    return value * (1 - saturation + saturation * pure)


@dataclass(frozen=True)
class _Canvas:
    """A rectangle of the images, and its coordinates.

    Args:
        pixels: (N, 3, h, w), a view that painting changes.
        x, y: coordinates of the pixels' centres, (1, 1, w) and (1, h, 1).
        sharpness: pixels per unit of length, S/2.
    """

    pixels: Tensor
    x: Tensor
    y: Tensor
    sharpness: float

    @classmethod
    def of(cls, pixels: Tensor) -> _Canvas:
        size = pixels.shape[-1]
        centres = (2 * torch.arange(size, device=pixels.device) + 1) / size - 1
        return cls(pixels, centres[None, None, :], centres[None, :, None], size / 2)

    def rows(self, start: int, stop: int) -> _Canvas:
        part = slice(start, stop)
        return _Canvas(self.pixels[:, :, part], self.x, self.y[:, part], self.sharpness)

    def crop(self, left: float, right: float, top: float, bottom: float) -> _Canvas:
        """The pixels that a shape within these bounds can touch: less to paint."""
        margin = 1 / self.sharpness
        xs = ((self.x > left - margin) & (self.x < right + margin)).flatten().nonzero().flatten()
        ys = ((self.y > top - margin) & (self.y < bottom + margin)).flatten().nonzero().flatten()
        column = slice(int(xs[0]), int(xs[-1]) + 1) if len(xs) else slice(0, 0)
        row = slice(int(ys[0]), int(ys[-1]) + 1) if len(ys) else slice(0, 0)
        return _Canvas(
            self.pixels[:, :, row, column], self.x[:, :, column], self.y[:, row], self.sharpness
        )

    def cover(self, distance: Tensor, softness: float = 0.0) -> Tensor:
        """Coverage in [0, 1] of pixels at a signed distance from a shape's edge.

        Args:
            distance: (N, h, w), negative inside.
            softness: width of a blurred edge; never under a pixel.
        """
        sharpness = min(self.sharpness, 1 / softness) if softness else self.sharpness
        return (0.5 - sharpness * distance).clamp(0, 1)

    def ellipse(self, cx: Tensor | float, cy: Tensor | float, rx: Tensor | float,
                ry: Tensor | float) -> Tensor:  # fmt: skip
        """Signed distance (approximate) from an ellipse, (N, h, w)."""
        u, v = (self.x - cx) / rx, (self.y - cy) / ry
        scale = torch.minimum(torch.as_tensor(rx), torch.as_tensor(ry))
        return ((u * u + v * v).sqrt() - 1) * scale

    def pair(self, cx: Tensor, gap: Tensor | float, cy: Tensor | float, rx: Tensor | float,
             ry: Tensor | float) -> Tensor:  # fmt: skip
        """Signed distance from two ellipses at cx ± gap."""
        u, v = ((self.x - cx).abs() - gap) / rx, (self.y - cy) / ry
        scale = torch.minimum(torch.as_tensor(rx), torch.as_tensor(ry))
        return ((u * u + v * v).sqrt() - 1) * scale

    def box(self, cx: Tensor | float, cy: Tensor | float, rx: Tensor | float, ry: Tensor | float,
            corner: float = 0.0) -> Tensor:  # fmt: skip
        """Signed distance from a box with rounded corners."""
        dx = (self.x - cx).abs() - rx + corner
        dy = (self.y - cy).abs() - ry + corner
        outside = (dx.clamp_min(0).square() + dy.clamp_min(0).square()).sqrt()
        return outside + torch.maximum(dx, dy).clamp_max(0) - corner

    def paint(self, colour: Tensor, alpha: Tensor) -> None:
        """Cover with a colour, (N, 3, 1 or h, 1 or w), by alpha, (N, h, w) in [0, 1]."""
        self.pixels.add_(alpha[:, None] * (colour - self.pixels))


class _Head:
    """Geometry and colours that the parts of a face share; lengths (N, 1, 1)."""

    def __init__(self, visible: _Values, hidden: _Values) -> None:
        self.visible, self.hidden = visible, hidden
        self.cx = visible.between("position", -0.06, 0.06)
        self.cy = -0.06
        self.rx = visible.between("face_width", 0.44, 0.54)
        self.top = 0.58  # from cy up
        self.bottom = visible.between("chin", 0.64, 0.74)  # from cy down
        self.light = visible.between("light", -1.0, 1.0)
        self.skin = _palette(_SKIN, visible["skin"])
        tint = torch.tensor([0.05, 0.0, -0.06], device=self.cx.device)[:, None, None]
        self.skin = self.skin + visible.between("undertone", -1, 1)[:, None] * tint
        shade = hidden.between("hair_shade", 0.75, 1.2)[:, None]
        self.hair = (hidden.looked_up("hair_colour", _HAIR) * shade).clamp_max(1)
        self.eye_y = -0.04
        self.eye_gap = hidden.between("eye_gap", 0.185, 0.235)

    def radius(self, canvas: _Canvas) -> tuple[Tensor, Tensor]:
        """Relative radius (1 on the outline) and horizontal place u of each pixel."""
        u = (canvas.x - self.cx) / self.rx
        dy = canvas.y - self.cy
        v = dy.clamp_max(0) / self.top + dy.clamp_min(0) / self.bottom
        down = v.clamp(0, 1)
        # A lower half between a square and a pointed one: a squircle that narrows downwards.
        width = u / (1 - self.visible.between("taper", 0.05, 0.3) * down * down)
        square, vv = width * width, v * v
        jaw = self.visible.between("jaw", 0.0, 0.5) * (v > 0)
        return (square + vv - jaw * (square * vv).clamp_max(1)).clamp_min(0).sqrt(), u

    def side(self, canvas: _Canvas) -> Tensor:
        """Light from one side, about −1 … 1, (N, 1, w)."""
        return self.light * ((canvas.x - self.cx) / self.rx).clamp(-1.3, 1.3)


def _background(canvas: _Canvas, visible: _Values) -> None:
    """Two colours, a slanted gradient between them."""
    tone = visible.between("background_tone", 0.5, 0.95)
    low = _hsv(visible["background"], 0.42, tone)
    high = _hsv(visible["background"] + visible.between("background_shift", -0.2, 0.2),
                0.3, 1.35 - 0.55 * tone)  # fmt: skip
    t = 0.5 - 0.5 * canvas.y + visible.between("background_slant", -0.3, 0.3) * canvas.x
    canvas.pixels.copy_(low + t[:, None] * (high - low))


def _backdrop(canvas: _Canvas, hidden: _Values) -> None:
    """A sun, a framed picture or blurred lights, in the upper half."""
    x = hidden.between("backdrop_x", -0.85, 0.85)
    y = hidden.between("backdrop_y", -0.8, -0.2)
    colour = _hsv(hidden["backdrop_colour"], 0.55, 0.95)
    sun, picture, bokeh = (hidden.chosen("backdrop", c) for c in ("sun", "picture", "bokeh"))
    upper = canvas.crop(-1, 1, -1, 0.3)
    upper.paint(colour * 0.2 + 0.8, 0.45 * sun * upper.cover(upper.ellipse(x, y, 0.33, 0.33), 0.2))
    upper.paint(colour * 0.5 + 0.5, sun * upper.cover(upper.ellipse(x, y, 0.2, 0.2)))
    left = torch.where(x > 0, 0.72, -0.72)
    for half, shade in ((0.24, 0.3), (0.19, 0.95), (0.12, 0.0)):
        paint = colour * (1 - shade) + shade * shade
        upper.paint(paint, picture * upper.cover(upper.box(left, y, half, half * 1.2, 0.02)))
    for dx, dy, r in ((0.0, 0.0, 0.2), (0.75, 0.25, 0.15), (-0.7, 0.2, 0.13), (1.3, -0.1, 0.17)):
        cx = x + dx - 2 * ((x + dx + 1) / 2).floor()  # wraps around the image's sides
        disc = upper.cover(upper.ellipse(cx, y + dy, r, r), 0.04)
        upper.paint(0.5 + 0.5 * colour, 0.6 * bokeh * disc)


def _body(canvas: _Canvas, head: _Head) -> None:
    """Neck with the chin's shadow, shoulders, neckline and pattern; all of it visible."""
    visible, cx = head.visible, head.cx
    part = canvas.crop(-1, 1, 0.2, 1)
    neck = visible.between("neck", 0.17, 0.24)
    column = part.cover((part.x - cx).abs() - neck - 0.15 * (part.y - 0.62).clamp_min(0).square())
    column = column * (part.y > 0.25)
    part.paint(head.skin * (0.86 + 0.1 * head.side(part)[:, None]), column)
    shadow = part.cover(part.ellipse(cx, head.cy + 0.1, head.rx, head.bottom), 0.16)
    part.paint(head.skin * 0.62, 0.75 * shadow * column)
    _clothes(canvas.crop(-1, 1, 0.6, 1), head, neck)


def _clothes(part: _Canvas, head: _Head, neck: Tensor) -> None:
    visible, cx = head.visible, head.cx
    tone = visible.between("clothes_tone", 0.3, 0.9)
    cloth = _hsv(visible["clothes"], 0.62, tone)
    trim = _hsv(visible["clothes"], 0.3, 1.15 - 0.6 * tone)
    across = (part.x - cx).abs()
    reach = visible.between("shoulders", 0.72, 0.95)
    slope = (across - neck).clamp_min(0) / (reach - neck)
    shoulder = 0.68 + 0.3 * slope * slope  # y of the upper edge
    v_neck, collar, turtle = (
        visible.chosen("neckline", c) for c in ("v_neck", "collar", "turtleneck")
    )
    depth = 0.12 + 0.2 * v_neck + 0.1 * collar - 0.2 * turtle
    bow = across / (neck + 0.03)
    fall = torch.where(v_neck + collar > 0, 1 - bow, (1 - bow * bow).clamp_min(0))
    throat = part.y - 0.7 - depth * fall.clamp_min(0)  # above this line there is skin
    garment = part.cover(
        torch.maximum(0.85 * (shoulder - part.y), torch.where(bow < 1, -throat, -1))
    )
    fold = 0.92 + 0.12 * head.side(part) - 0.25 * (across - 0.45).clamp_min(0)
    stripes = visible.chosen("pattern", "stripes")
    wave = (part.y * 5.2 - (part.y * 5.2).floor() - 0.5).abs() * 4 - 1
    yoke = visible.chosen("pattern", "yoke") * part.cover(part.y - 0.84)
    second = (stripes * (0.5 + wave).clamp(0, 1) + yoke)[:, None]
    part.paint((cloth + second * (trim - cloth)) * fold[:, None], garment)
    ribbon = part.cover((throat - 0.03).abs() - 0.035) * (bow < 1.05) * (1 - turtle)
    part.paint(trim * fold[:, None], ribbon * garment)
    roll = part.cover(part.box(cx, 0.72, neck + 0.035, 0.075, 0.05)) * turtle
    part.paint(cloth * 0.82, roll)


def _ears(canvas: _Canvas, head: _Head) -> None:
    part = canvas.crop(-0.7, 0.7, -0.2, 0.35)
    gap = head.rx + 0.01
    part.paint(head.skin * 0.9, part.cover(part.pair(head.cx, gap, 0.02, 0.075, 0.125)))
    part.paint(head.skin * 0.7, 0.7 * part.cover(part.pair(head.cx, gap + 0.015, 0.02, 0.03, 0.07)))
    gold = torch.tensor([0.98, 0.82, 0.3], device=head.cx.device)[:, None, None]
    drop = part.cover(part.pair(head.cx, gap + 0.02, 0.18, 0.04, 0.055))
    part.paint(gold, drop * head.hidden.chosen("earrings", "gold"))


def _skin(canvas: _Canvas, head: _Head) -> None:
    """The head, lit from one side and darker towards its edge."""
    part = canvas.crop(-0.6, 0.6, -0.7, 0.75)
    radius, _ = head.radius(part)
    edge = radius.square().square().clamp_max(1)
    shade = 1.03 + 0.11 * head.side(part) - 0.2 * edge - 0.05 * part.y
    part.paint(head.skin * shade[:, None], part.cover((radius - 1) * head.rx))


def _cheeks(canvas: _Canvas, head: _Head) -> None:
    part = canvas.crop(-0.6, 0.6, -0.05, 0.4)
    rose = head.skin * torch.tensor([1.0, 0.62, 0.6], device=head.cx.device)[:, None, None]
    blush = part.cover(part.pair(head.cx, 0.26, 0.17, 0.13, 0.1), 0.14)
    part.paint(rose, head.hidden.between("blush", 0.0, 0.6) * blush)
    dots = [part.pair(head.cx, gap, y, 0.018, 0.018)
            for gap, y in ((0.12, 0.12), (0.18, 0.17), (0.24, 0.11), (0.29, 0.17), (0.22, 0.21))]  # fmt: skip
    marks = part.cover(torch.stack(dots).amin(0))
    part.paint(head.skin * 0.6, 0.75 * head.hidden.chosen("skin_marks", "freckles") * marks)


def _nose(canvas: _Canvas, head: _Head) -> None:
    part = canvas.crop(-0.2, 0.2, -0.1, 0.3)
    width = head.hidden.between("nose_width", 0.05, 0.095)
    y = head.hidden.between("nose_length", 0.11, 0.18)
    side = torch.where(head.light > 0, -1.0, 1.0)
    bridge = part.cover(part.ellipse(head.cx + side * 0.045, y - 0.12, 0.03, 0.14), 0.06)
    part.paint(head.skin * 0.78, 0.5 * bridge)
    part.paint(
        head.skin * 0.72,
        0.8 * part.cover(part.ellipse(head.cx, y + 0.02, width + 0.015, 0.05), 0.03),
    )
    part.paint(
        (head.skin * 1.08).clamp_max(1), part.cover(part.ellipse(head.cx, y, width, 0.045), 0.04)
    )
    part.paint(
        head.skin * 0.45, 0.8 * part.cover(part.pair(head.cx, width * 0.5, y + 0.035, 0.02, 0.014))
    )


def _mouth(canvas: _Canvas, head: _Head) -> None:
    """Lips, the dark between them and teeth, along a curve that smiles or not."""
    part = canvas.crop(-0.36, 0.36, 0.2, 0.5)
    hidden = head.hidden
    u = (part.x - head.cx) / hidden.between("mouth_width", 0.17, 0.29)
    arch = (1 - u * u).clamp_min(0)
    smile = hidden.between("smile", -0.5, 1.0)
    line = part.y - 0.285 - 0.16 * smile * arch + 0.085 * smile
    gape = (hidden["mouth_open"] - 0.45).clamp_min(0) * 0.12 * (0.4 + smile.abs())
    lip = hidden.between("lip", 0.018, 0.042)
    within = part.cover((u.abs() - 1) * 0.2)
    red = torch.tensor([0.82, 0.3, 0.33], device=u.device)[:, None, None]
    tint = hidden.between("lip", 0.35, 0.85)[:, None]
    lips = head.skin * 0.7 * (1 - tint) + red * tint * (0.5 + 0.5 * head.skin)
    part.paint(lips, within * part.cover(line.abs() - lip - gape * arch))
    part.paint(lips * 0.3, within * part.cover(line.abs() - gape * arch - 0.006))
    shown = within * part.cover(torch.maximum(line.abs() - gape * arch + 0.012, line - 0.1 * gape))
    part.paint(torch.full_like(lips, 0.97), shown * (gape > 0.02))


def _whiskers(canvas: _Canvas, head: _Head) -> None:
    """Moustache, and chops that fade out before the chin."""
    part = canvas.crop(-0.62, 0.62, -0.15, 0.5)
    hidden = head.hidden
    hair = head.hair * 0.85
    radius, _ = head.radius(part)
    band = part.cover((0.8 - radius) * head.rx, 0.05) * part.cover((radius - 1) * head.rx)
    fade = ((part.y + 0.12) * 6).clamp(0, 1) * ((0.47 - part.y) * 8).clamp(0, 1)
    part.paint(hair, 0.9 * hidden.chosen("whiskers", "chops") * band * fade)
    bushy = hidden.chosen("moustache", "bushy")
    across = (part.x - head.cx).abs()
    size = 0.022 + 0.028 * bushy
    bar = (part.y - 0.225 - 0.7 * across * across).abs() - size * (1 - (across / 0.21).square())
    bar = torch.maximum(bar, across - 0.2)
    part.paint(hair, (1 - hidden.chosen("moustache", "none")) * part.cover(bar))


def _eyes(canvas: _Canvas, head: _Head) -> None:
    part = canvas.crop(-0.5, 0.5, -0.24, 0.16)
    hidden, y, gap = head.hidden, head.eye_y, head.eye_gap
    width = hidden.between("eye_size", 0.1, 0.14)
    height = width * hidden.between("eyelid", 0.48, 0.92)
    part.paint(
        head.skin * 0.68,
        0.6 * part.cover(part.pair(head.cx, gap, y - 0.01, width + 0.03, height + 0.035), 0.04),
    )
    white = part.pair(head.cx, gap, y, width, height)
    opening = part.cover(white)
    part.paint(torch.full_like(head.skin, 0.97), opening)
    # The gaze moves both irises the same way, so that each eye has its own centre.
    look_x, look_y = (
        hidden.between("gaze_x", -0.042, 0.042),
        y + hidden.between("gaze_y", -0.02, 0.02),
    )
    iris, pupil, glint = (
        torch.minimum(
            part.ellipse(head.cx - gap + look_x + dx, look_y + dy, r, r),
            part.ellipse(head.cx + gap + look_x + dx, look_y + dy, r, r),
        )
        for r, dx, dy in (
            (width * 0.56, 0.0, 0.0),
            (width * 0.27, 0.0, 0.0),
            (width * 0.15, 0.025, -0.025),
        )
    )
    part.paint(hidden.looked_up("eye_colour", _IRIS), opening * part.cover(iris))
    part.paint(torch.full_like(head.skin, 0.03), opening * part.cover(pupil))
    part.paint(torch.full_like(head.skin, 1.0), 0.9 * opening * part.cover(glint))
    lash = part.cover(white.abs() - 0.012) * (part.y < y)
    part.paint(head.skin * 0.2, 0.85 * lash)


def _brows(canvas: _Canvas, head: _Head) -> None:
    part = canvas.crop(-0.45, 0.45, -0.4, -0.08)
    hidden = head.hidden
    along = (part.x - head.cx).abs() - head.eye_gap
    y = hidden.between("brow_height", -0.27, -0.2)
    bend = hidden.between("brow_angle", -0.4, 0.4) * along + 2.2 * along * along
    weight = hidden.between("brow_weight", 0.014, 0.036) * (1 - 2 * along.clamp_min(0))
    shape = torch.maximum((part.y - y - bend).abs() - weight, along.abs() - 0.14)
    part.paint(head.hair * 0.7, part.cover(shape))


def _hair_behind(canvas: _Canvas, head: _Head) -> None:
    """What hangs or stands behind the head; it ends above the known rows."""
    hidden, cx, rx = head.hidden, head.cx, head.rx
    spread = hidden.between("volume", 0.0, 0.08)
    part = canvas.crop(-1, 1, -1, 0.5)
    long, bob, curly, tails, bun = (
        hidden.chosen("hair", c) for c in ("long", "bob", "curly", "pigtails", "bun")
    )
    bottom = 0.47 * long + 0.34 * bob
    middle = (bottom - 0.45) / 2
    hang = part.box(cx, middle, rx + 0.09 + spread, bottom - middle, 0.22)
    ball = part.ellipse(cx, -0.74 - spread, 0.2, 0.17)
    pigtail = part.pair(cx, rx + 0.2, -0.05 + spread, 0.15, 0.24 + spread)
    curls = torch.stack([
        part.pair(cx, (rx + 0.08) * gx, head.cy + 0.56 * gy - 0.02, 0.19 + spread, 0.19 + spread)
        for gx, gy in ((0.22, -1.0), (0.68, -0.8), (0.98, -0.42), (1.06, 0.02), (0.98, 0.4))
    ]).amin(0)  # fmt: skip
    shapes = ((hang, long + bob), (ball, bun), (pigtail, tails), (curls, curly))
    alpha = sum(part.cover(shape) * present for shape, present in shapes)
    shade = 0.72 + 0.1 * head.side(part) - 0.12 * part.y
    part.paint(head.hair * shade[:, None], alpha)


def _hair_front(canvas: _Canvas, head: _Head) -> None:
    """Hair over the forehead and temples, with a sheen; a mohawk; a balding head's sides."""
    hidden, part = head.hidden, canvas.crop(-0.85, 0.85, -1, 0.45)
    cut = hidden.looked_up("hair", tuple(_CUT[c] for c in HIDDEN[0].classes))
    off, line, sides, slant = cut.unbind(1)
    off = off * hidden.between("volume", 0.6, 1.5)
    line = line + hidden.between("hairline", -0.05, 0.07)
    u = (part.x - head.cx) / head.rx
    slope = slant * torch.where(hidden["part"] < 0.5, -1.0, 1.0)
    uu = u * u
    edge = line + slope * u + sides * uu * uu
    steep = (1 + ((slope + 4 * sides * uu * u) / head.rx).square()).sqrt()
    v = (part.y - head.cy) / (head.top + off)
    across = u * (head.rx / (head.rx + off))
    radius = (across * across + v * v).sqrt()
    cap = torch.maximum((radius - 1) * head.rx, (part.y - edge) / steep)
    crest = part.ellipse(head.cx, -0.62, 0.1 + hidden.between("volume", 0, 0.05), 0.3)
    tuft = torch.maximum(part.pair(head.cx, head.rx - 0.02, -0.1, 0.15, 0.28), part.y - 0.08)
    patch = torch.maximum(tuft, (radius - 1.02) * head.rx)
    alpha = part.cover(cap)
    for style, shape in (("mohawk", crest), ("balding", patch)):
        alpha = alpha + part.cover(shape) * hidden.chosen("hair", style)
    alpha = alpha * (1 - 0.35 * hidden.chosen("hair", "buzz"))
    sheen = (1 - (7 * (radius - 0.82)).square()).clamp_min(0) * (0.55 + 0.45 * head.side(part))
    shade = 0.9 + 0.14 * head.side(part) - 0.2 * (part.y + 0.4)
    part.paint((head.hair * shade[:, None] + 0.2 * sheen[:, None]).clamp_max(1), alpha)


def _glasses(canvas: _Canvas, head: _Head) -> None:
    hidden, part = head.hidden, canvas.crop(-0.65, 0.65, -0.28, 0.22)
    worn = 1 - hidden.chosen("glasses", "none")
    square, sun = hidden.chosen("glasses", "square"), hidden.chosen("glasses", "sun")
    across, y = (part.x - head.cx).abs(), part.y - head.eye_y - 0.015
    u, v = (across - head.eye_gap) / (0.172 + 0.012 * square), y / (0.165 - 0.035 * square)
    uu, vv = u * u, v * v
    lens = ((uu + vv - 0.9 * square * (uu * vv).clamp_max(1)).clamp_min(0).sqrt() - 1) * 0.15
    rim = lens.abs() - 0.018
    bridge = torch.maximum((y + 0.03).abs() - 0.016, across - head.eye_gap + 0.155)
    temple = torch.maximum((y + 0.04).abs() - 0.016, head.eye_gap + 0.155 - across)
    temple = torch.maximum(temple, across - head.rx)
    tint = torch.full_like(head.skin, 0.92) - 0.84 * sun[:, None] * (1 + 0.8 * y[:, None])
    part.paint(tint, worn * (0.1 + 0.85 * sun) * part.cover(lens))
    glare = part.cover((across - head.eye_gap + 0.7 * y + 0.04).abs() - 0.022) * part.cover(
        lens + 0.04
    )
    part.paint(torch.ones_like(head.skin), 0.4 * worn * glare)
    frame = _palette(_FRAME, hidden["frame_colour"])
    part.paint(frame, worn * part.cover(torch.minimum(torch.minimum(rim, bridge), temple)))


def _hat(canvas: _Canvas, head: _Head) -> None:
    hidden, part = head.hidden, canvas.crop(-1, 1, -1, -0.15)
    beanie, cap, band = (hidden.chosen("hat", c) for c in ("beanie", "cap", "band"))
    colour = _hsv(hidden["hat_colour"], 0.65, 0.8)
    shade = (0.92 + 0.15 * head.side(part) - 0.2 * (part.y + 0.6))[:, None]
    dome = part.ellipse(head.cx, -0.36, head.rx + 0.1, 0.5)
    crown = part.cover(torch.maximum(dome, part.y + 0.37))
    part.paint(colour * shade, (beanie + cap) * crown)
    part.paint((colour + 0.25).clamp_max(1) * shade,
               beanie * part.cover(part.box(head.cx, -0.38, head.rx + 0.11, 0.07, 0.04)))  # fmt: skip
    part.paint(
        (colour + 0.25).clamp_max(1) * shade,
        beanie * part.cover(part.ellipse(head.cx, -0.87, 0.12, 0.1)),
    )
    side = torch.where(hidden["part"] < 0.5, -0.16, 0.16)
    part.paint(
        colour * 0.7 * shade,
        cap * part.cover(part.box(head.cx + side, -0.36, head.rx + 0.1, 0.05, 0.05)),
    )
    radius = part.ellipse(head.cx, head.cy, head.rx + 0.08, head.top + 0.09)
    ribbon = torch.maximum((part.y + 0.4 - 0.25 * (part.x - head.cx).square()).abs() - 0.06, radius)
    part.paint(colour * shade * 1.1, band * part.cover(ribbon))
