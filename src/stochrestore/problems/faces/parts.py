"""The parts of a procedural face, painted from back to front, in the canvas's coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from stochrestore.problems.faces.canvas import Canvas, hsv, palette
from stochrestore.problems.faces.latents import HIDDEN, Values

# Colours, one row each; continuous palettes are interpolated between their rows.
_SKIN = ((1.0, 0.87, 0.76), (0.95, 0.75, 0.6), (0.8, 0.57, 0.41), (0.56, 0.36, 0.25),
         (0.36, 0.22, 0.16))  # fmt: skip
_HAIR = ((0.1, 0.085, 0.09), (0.3, 0.18, 0.11), (0.47, 0.24, 0.12), (0.78, 0.34, 0.1),
         (0.93, 0.75, 0.38), (0.74, 0.74, 0.76), (0.93, 0.42, 0.62),
         (0.25, 0.45, 0.85))  # fmt: skip
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


def paint_face(whole: Canvas, upper: Canvas, visible: Values, hidden: Values) -> None:
    """Paint all parts of the faces; parts whose shape depends on hidden latents stay in ``upper``.

    Args:
        whole: the canvas that covers the images.
        upper: the canvas that covers their unknown rows.
        visible: the visible latents by name.
        hidden: the hidden latents by name.
    """
    head = Head(visible, hidden)
    _background(whole, visible)
    _backdrop(upper, hidden)
    _hair_behind(upper, head)
    _body(whole, head)
    _ears(upper, head)
    _skin(whole, head)
    for part in (_cheeks, _nose, _mouth, _whiskers, _eyes, _brows, _hair_front, _glasses, _hat):
        part(upper, head)


class Head:
    """Geometry and colours that several parts of a face use; lengths are (N, 1, 1)."""

    def __init__(self, visible: Values, hidden: Values) -> None:
        self.visible, self.hidden = visible, hidden
        self.cx = visible.between("position", -0.06, 0.06)
        self.cy = -0.06
        self.rx = visible.between("face_width", 0.44, 0.54)
        self.top = 0.58  # from cy up
        self.bottom = visible.between("chin", 0.64, 0.74)  # from cy down
        self.light = visible.between("light", -1.0, 1.0)
        self.skin = palette(_SKIN, visible["skin"])
        tint = torch.tensor([0.05, 0.0, -0.06], device=self.cx.device)[:, None, None]
        self.skin = self.skin + visible.between("undertone", -1, 1)[:, None] * tint
        shade = hidden.between("hair_shade", 0.75, 1.2)[:, None]
        self.hair = (hidden.looked_up("hair_colour", _HAIR) * shade).clamp_max(1)
        self.eye_y = -0.04
        self.eye_gap = hidden.between("eye_gap", 0.185, 0.235)

    def radius(self, canvas: Canvas, drop: float = 0.0) -> Tensor:
        """Radius of each pixel, 1 on the head's outline; ``drop`` moves the head down."""
        u = (canvas.x - self.cx) / self.rx
        dy = canvas.y - self.cy - drop
        v = dy.clamp_max(0) / self.top + dy.clamp_min(0) / self.bottom
        down = v.clamp(0, 1)
        # A lower half between a square and a pointed one: a squircle that narrows downwards.
        width = u / (1 - self.visible.between("jaw", 0.3, 0.05) * down * down)
        square, vv = width * width, v * v
        jaw = self.visible.between("jaw", 0.0, 0.5) * (v > 0)
        return (square + vv - jaw * (square * vv).clamp_max(1)).clamp_min(0).sqrt()

    def side(self, canvas: Canvas) -> Tensor:
        """How much light each column gets from one side, about −1 … 1, (N, 1, w)."""
        return self.light * ((canvas.x - self.cx) / self.rx).clamp(-1.3, 1.3)


def _background(canvas: Canvas, visible: Values) -> None:
    """A slanted gradient between two colours."""
    tone = visible.between("background_tone", 0.5, 0.95)
    low = hsv(visible["background"], 0.42, tone)
    high = hsv(visible["background"] + visible.between("background_shift", -0.2, 0.2),
                0.3, 1.35 - 0.55 * tone)  # fmt: skip
    t = 0.5 - 0.5 * canvas.y + visible.between("background_slant", -0.3, 0.3) * canvas.x
    canvas.pixels.copy_(low + t[:, None] * (high - low))


def _backdrop(canvas: Canvas, hidden: Values) -> None:
    """A sun, a framed picture or blurred lights, in the upper half."""
    x = hidden.between("backdrop_x", -0.85, 0.85)
    y = hidden.between("backdrop_y", -0.8, -0.2)
    colour = hsv(hidden["backdrop_colour"], 0.55, 0.95)
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


def _body(canvas: Canvas, head: Head) -> None:
    """Neck with the chin's shadow, and clothes; they depend on visible latents only."""
    visible, cx = head.visible, head.cx
    part = canvas.crop(-1, 1, 0.2, 1)
    neck = visible.between("neck", 0.17, 0.24)
    column = part.cover((part.x - cx).abs() - neck - 0.15 * (part.y - 0.62).clamp_min(0).square())
    column = column * (part.y > 0.25)
    part.paint(head.skin * (0.86 + 0.1 * head.side(part)[:, None]), column)
    radius = head.radius(part, drop=0.1)
    shadow = part.cover((radius - 1) * head.rx, 0.3)
    part.paint(head.skin * 0.62, 0.75 * shadow * column)
    _clothes(canvas.crop(-1, 1, 0.6, 1), head, neck)


def _clothes(part: Canvas, head: Head, neck: Tensor) -> None:
    visible, cx = head.visible, head.cx
    tone = visible.between("clothes_tone", 0.3, 0.9)
    cloth = hsv(visible["clothes"], 0.62, tone)
    trim = hsv(visible["clothes"], 0.3, 1.15 - 0.6 * tone)
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
    # The head's wide soft shadow: in the known rows it tells the face's width and length.
    shadow = (0.6 - part.ellipse(cx, head.cy, head.rx, head.bottom)).clamp(0, 0.6)
    fold = 1 + 0.12 * head.side(part) - 0.35 * shadow - 0.2 * (across - 0.45).clamp_min(0)
    stripes = visible.chosen("pattern", "stripes")
    wave = (part.y * 5.2 - (part.y * 5.2).floor() - 0.5).abs() * 4 - 1
    yoke = visible.chosen("pattern", "yoke") * part.cover(part.y - 0.84)
    second = (stripes * (0.5 + wave).clamp(0, 1) + yoke)[:, None]
    part.paint((cloth + second * (trim - cloth)) * fold[:, None], garment)
    ribbon = part.cover((throat - 0.03).abs() - 0.035) * (bow < 1.05) * (1 - turtle)
    part.paint(trim * fold[:, None], ribbon * garment)
    roll = part.cover(part.box(cx, 0.72, neck + 0.035, 0.075, 0.05)) * turtle
    part.paint(cloth * 0.82, roll)


def _ears(canvas: Canvas, head: Head) -> None:
    part = canvas.crop(-0.7, 0.7, -0.2, 0.35)
    gap = head.rx + 0.01
    part.paint(head.skin * 0.9, part.cover(part.pair(head.cx, gap, 0.02, 0.075, 0.125)))
    part.paint(head.skin * 0.7, 0.7 * part.cover(part.pair(head.cx, gap + 0.015, 0.02, 0.03, 0.07)))
    gold = torch.tensor([0.98, 0.82, 0.3], device=head.cx.device)[:, None, None]
    drop = part.cover(part.pair(head.cx, gap + 0.02, 0.18, 0.04, 0.055))
    part.paint(gold, drop * head.hidden.chosen("earrings", "gold"))


def _skin(canvas: Canvas, head: Head) -> None:
    """The head's skin, lit from one side and darker towards the edge."""
    part = canvas.crop(-0.6, 0.6, -0.7, 0.75)
    radius = head.radius(part)
    edge = radius.square().square().clamp_max(1)
    shade = 1.03 + 0.11 * head.side(part) - 0.2 * edge - 0.05 * part.y
    part.paint(head.skin * shade[:, None], part.cover((radius - 1) * head.rx))


def _cheeks(canvas: Canvas, head: Head) -> None:
    part = canvas.crop(-0.6, 0.6, -0.05, 0.4)
    rose = head.skin * torch.tensor([1.0, 0.62, 0.6], device=head.cx.device)[:, None, None]
    blush = part.cover(part.pair(head.cx, 0.26, 0.17, 0.13, 0.1), 0.14)
    part.paint(rose, head.hidden.between("blush", 0.0, 0.6) * blush)
    places = ((0.12, 0.12), (0.18, 0.17), (0.24, 0.11), (0.29, 0.17), (0.22, 0.21))
    dots = [part.pair(head.cx, gap, y, 0.018, 0.018) for gap, y in places]
    marks = part.cover(torch.stack(dots).amin(0))
    part.paint(head.skin * 0.6, 0.75 * head.hidden.chosen("skin_marks", "freckles") * marks)


def _nose(canvas: Canvas, head: Head) -> None:
    part = canvas.crop(-0.2, 0.2, -0.1, 0.3)
    width = head.hidden.between("nose_width", 0.05, 0.095)
    y = head.hidden.between("nose_length", 0.11, 0.18)
    side = torch.where(head.light > 0, -1.0, 1.0)
    bridge = part.cover(part.ellipse(head.cx + side * 0.045, y - 0.12, 0.03, 0.14), 0.06)
    part.paint(head.skin * 0.78, 0.5 * bridge)
    shadow = part.cover(part.ellipse(head.cx, y + 0.02, width + 0.015, 0.05), 0.03)
    part.paint(head.skin * 0.72, 0.8 * shadow)
    tip = part.cover(part.ellipse(head.cx, y, width, 0.045), 0.04)
    part.paint((head.skin * 1.08).clamp_max(1), tip)
    nostrils = part.cover(part.pair(head.cx, width * 0.5, y + 0.035, 0.02, 0.014))
    part.paint(head.skin * 0.45, 0.8 * nostrils)


def _mouth(canvas: Canvas, head: Head) -> None:
    """Lips, the dark opening between them and teeth, along a curve that may smile."""
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


def _whiskers(canvas: Canvas, head: Head) -> None:
    """Moustache, and chops that fade out before the chin."""
    part = canvas.crop(-0.62, 0.62, -0.15, 0.5)
    hidden = head.hidden
    hair = head.hair * 0.85
    radius = head.radius(part)
    band = part.cover((0.8 - radius) * head.rx, 0.05) * part.cover((radius - 1) * head.rx)
    fade = ((part.y + 0.12) * 6).clamp(0, 1) * ((0.47 - part.y) * 8).clamp(0, 1)
    part.paint(hair, 0.9 * hidden.chosen("whiskers", "chops") * band * fade)
    bushy = hidden.chosen("moustache", "bushy")
    across = (part.x - head.cx).abs()
    size = 0.022 + 0.028 * bushy
    bar = (part.y - 0.225 - 0.7 * across * across).abs() - size * (1 - (across / 0.21).square())
    bar = torch.maximum(bar, across - 0.2)
    part.paint(hair, (1 - hidden.chosen("moustache", "none")) * part.cover(bar))


def _eyes(canvas: Canvas, head: Head) -> None:
    part = canvas.crop(-0.5, 0.5, -0.24, 0.16)
    hidden, y, gap = head.hidden, head.eye_y, head.eye_gap
    width = hidden.between("eye_size", 0.1, 0.14)
    height = width * hidden.between("eyelid", 0.48, 0.92)
    socket = part.cover(part.pair(head.cx, gap, y - 0.01, width + 0.03, height + 0.035), 0.04)
    part.paint(head.skin * 0.68, 0.6 * socket)
    white = part.pair(head.cx, gap, y, width, height)
    opening = part.cover(white)
    part.paint(torch.full_like(head.skin, 0.97), opening)
    # The gaze moves both irises the same way, so that each eye has its own centre.
    look_x = hidden.between("gaze_x", -0.042, 0.042)
    look_y = y + hidden.between("gaze_y", -0.02, 0.02)
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


def _brows(canvas: Canvas, head: Head) -> None:
    part = canvas.crop(-0.45, 0.45, -0.4, -0.08)
    hidden = head.hidden
    along = (part.x - head.cx).abs() - head.eye_gap
    y = hidden.between("brow_height", -0.27, -0.2)
    bend = hidden.between("brow_angle", -0.4, 0.4) * along + 2.2 * along * along
    weight = hidden.between("brow_weight", 0.014, 0.036) * (1 - 2 * along.clamp_min(0))
    shape = torch.maximum((part.y - y - bend).abs() - weight, along.abs() - 0.14)
    part.paint(head.hair * 0.7, part.cover(shape))


def _hair_behind(canvas: Canvas, head: Head) -> None:
    """Hair behind the head, which ends above the known rows."""
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
    alpha = torch.stack([part.cover(shape) * present for shape, present in shapes]).sum(0)
    shade = 0.72 + 0.1 * head.side(part) - 0.12 * part.y
    part.paint(head.hair * shade[:, None], alpha)


def _hair_front(canvas: Canvas, head: Head) -> None:
    """Hair on forehead and temples with a sheen, a mohawk, or hair at the sides only."""
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


def _glasses(canvas: Canvas, head: Head) -> None:
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
    glare = part.cover((across - head.eye_gap + 0.7 * y + 0.04).abs() - 0.022)
    part.paint(torch.ones_like(head.skin), 0.4 * worn * (glare * part.cover(lens + 0.04)))
    frame = palette(_FRAME, hidden["frame_colour"])
    part.paint(frame, worn * part.cover(torch.minimum(torch.minimum(rim, bridge), temple)))


def _hat(canvas: Canvas, head: Head) -> None:
    hidden, part = head.hidden, canvas.crop(-1, 1, -1, -0.15)
    beanie, cap, band = (hidden.chosen("hat", c) for c in ("beanie", "cap", "band"))
    colour = hsv(hidden["hat_colour"], 0.65, 0.8)
    shade = (0.92 + 0.15 * head.side(part) - 0.2 * (part.y + 0.6))[:, None]
    dome = part.ellipse(head.cx, -0.36, head.rx + 0.1, 0.5)
    crown = part.cover(torch.maximum(dome, part.y + 0.37))
    part.paint(colour * shade, (beanie + cap) * crown)
    bright = (colour + 0.25).clamp_max(1) * shade
    part.paint(bright, beanie * part.cover(part.box(head.cx, -0.38, head.rx + 0.11, 0.07, 0.04)))
    part.paint(bright, beanie * part.cover(part.ellipse(head.cx, -0.87, 0.12, 0.1)))
    side = torch.where(hidden["part"] < 0.5, -0.16, 0.16)
    brim = part.box(head.cx + side, -0.36, head.rx + 0.1, 0.05, 0.05)
    part.paint(colour * 0.7 * shade, cap * part.cover(brim))
    radius = part.ellipse(head.cx, head.cy, head.rx + 0.08, head.top + 0.09)
    ribbon = torch.maximum((part.y + 0.4 - 0.25 * (part.x - head.cx).square()).abs() - 0.06, radius)
    part.paint(colour * shade * 1.1, band * part.cover(ribbon))
