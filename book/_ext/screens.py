"""Tables, pictures and captions for screens that are narrow or dark."""

import html
import re
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

TABLE = re.compile(r"<table\b.*?</table>", re.S)
ROW = re.compile(r"<tr\b.*?</tr>", re.S)
CELL = re.compile(r"<(t[hd])\b([^>]*)>(.*?)</\1>", re.S)
PICTURE = re.compile(r'<img\b[^>]*?\bsrc="([^"]*_images/([^"/]+\.(?:png|webp)))"[^>]*?/?>')
# "Fig. 14" before "After Figure 1 of the paper" would be a second number.
SECOND_NUMBER = re.compile(
    r'<span class="caption-number">[^<]*</span>(?=<span class="caption-text">After )'
)
THEOREM = re.compile(
    r'<span class="caption-number">Theorem [\d.]+\s*</span> \((Theorem [\d.]+) of the paper\)'
)
BROWSER = re.compile(r'<figure class="picture-browser[^"]*" id="([^"]+)"')
MARKED = re.compile(
    r'(?P<before>[(\[“]*)<span class="math notranslate nohighlight">\\\([^<]*\\\)</span>'
    r"(?P<after>[,.;:!?)\]”]*)"
)
UNIT = re.compile(r"<(pre|code)\b.*?</\1>|(?<=\d) (?=(?:%|dB|MB|GB)(?!\w))", re.S)
PART = 0.62  # share of a picture that a narrow screen shows at a legible size
NARROW = 560  # pixels; pictures that are no wider are shown whole
APART = 34  # empty rows of pixels; more stand above the title of a sheet only
TALL = 24  # pixels; what is lower everywhere is text, and belongs to the panel on its right
COLUMN = 18  # pixels between the columns of a legend; marks and words are nearer to each other


def label_cells(app, pagename, templatename, context, doctree):
    """Tell each cell its column's head, which stands before it where rows become blocks."""
    context["body"] = TABLE.sub(lambda table: _labelled(table[0]), context.get("body", ""))


def _labelled(table):
    head, end, body = table.partition("</thead>")
    if not end or "data-label" in table:
        return table
    heads = []
    for row in ROW.findall(head):
        texts = []
        for _, attributes, inside in CELL.findall(row):
            span = re.search(r'colspan="(\d+)"', attributes)
            texts += [_text(inside)] * (int(span[1]) if span else 1)
        heads.append(texts)
    width = max(map(len, heads), default=0)
    names = [
        " ".join(dict.fromkeys(row[i] for row in heads if i < len(row) and row[i]))
        for i in range(width)
    ]

    def tell(row):
        cells = list(CELL.finditer(row[0]))
        left = names[max(0, len(names) - len(cells)) :]
        labels = iter(left)

        def one(cell):
            label = html.escape(next(labels, ""))
            tag, attributes, inside = cell.groups()
            if r"\(" in label:  # a formula is drawn in an element, not in an attribute
                label, inside = "", f'<span class="head math">{label}</span>{inside}'
            return f'<{tag}{attributes} data-label="{label}">{inside}</{tag}>'

        return CELL.sub(one, row[0])

    return head + end + ROW.sub(tell, body)


def _text(inside):
    return html.unescape(re.sub(r"<[^>]+>", "", inside)).strip()


def fit_pictures(app, pagename, templatename, context, doctree):
    """Cut wide pictures between their panels for narrow screens, and mark photographs.

    A picture with a clear ground shows photographs, whose colours are kept in the dark.
    """
    files = {made: Path(app.srcdir, source) for source, made in app.builder.images.items()}

    def fit(match):
        file = files.get(html.unescape(match[2]))
        if file is None or not file.exists():
            return match[0]
        pixels = np.asarray(Image.open(file).convert("RGBA"))
        clear = "photographs" if (pixels[0, :, 3] == 0).all() else "plot"
        image = re.sub(r' class="[^"]*"', "", match[0])
        image = image.replace("<img", f'<img class="{clear}"', 1)
        boxes = [box for sheet in sheets(pixels) for box in _boxes(pixels, sheet)]
        if len(boxes) == 1:
            return image
        height, width = pixels.shape[:2]
        cut = "".join(_part(match[1], clear, box, boxes, width / height) for box in boxes)
        return f'<span class="parts">{image}{cut}</span>'

    context["body"] = PICTURE.sub(fit, context.get("body", ""))


def _boxes(pixels, sheet):
    """The parts of a sheet, as left, right, upper and lower ends in shares of the picture."""
    top, bottom = sheet
    height, width = pixels.shape[:2]
    shown = np.flatnonzero(_seen(pixels[top:bottom]).any(0))
    end = min(width, int(shown[-1]) + 4) if len(shown) else width
    own = [
        (left * end / width, right * end / width) for left, right in parts(pixels[top:bottom, :end])
    ]
    columns = own or [(0.0, end / width)]
    return [(left, right, top / height, bottom / height) for left, right in columns]


def _part(source, kind, box, boxes, aspect):
    left, right, top, bottom = box
    size, tall = right - left, bottom - top
    widest = max(b - a for a, b, _, _ in boxes)
    place = [
        100 * start / (1 - share) if share < 1 else 0
        for start, share in ((left, size), (top, tall))
    ]
    style = (
        f"background-image:url('{source}');background-size:{100 / size:.3f}% auto;"
        f"background-position:{place[0]:.3f}% {place[1]:.3f}%;"
        f"aspect-ratio:{size * aspect / tall:.4f};width:{100 * size / widest:.2f}%"
    )
    return f'<span class="part {kind}" style="{style}"></span>'


def _seen(pixels):
    return (pixels[..., 3] > 8) & (pixels[..., :3] < 248).any(-1)


def _runs(empty):
    """The runs of consecutive numbers among those of the empty rows or columns."""
    return np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1)


def sheets(pixels):
    """The upper and lower ends, in pixels, of the sheets that stand below each other."""
    empty = np.flatnonzero(~_seen(pixels).any(1))
    cuts = [int(run[-1]) for run in _runs(empty) if len(run) > APART and run[0] > 0]
    ends = [0, *(cut for cut in cuts if cut < len(pixels) - 1), len(pixels)]
    return list(pairwise(ends))


def _tall(seen):
    """For each column, whether it shows a line or an image, and not only letters."""
    run, longest = np.zeros(seen.shape[1], int), np.zeros(seen.shape[1], int)
    for row in seen:
        run = np.where(row, run + 1, 0)
        longest = np.maximum(longest, run)
    return longest > min(TALL, 0.8 * len(seen))


def parts(pixels):
    """The left and right ends of the parts of a picture, in shares of its width.

    Args:
        pixels: RGBA, (H, W, 4).

    Returns:
        Two or three parts, cut in columns that show nothing; none where the picture is narrow, or
        has no such columns where they would help. Numbers and names beside a panel stay with it. A
        legend, which has letters only, is cut between its columns.
    """
    width = pixels.shape[1]
    if width <= NARROW:
        return []
    seen = _seen(pixels)
    tall = _tall(seen)
    legend = not tall.any()
    least = COLUMN if legend else 4
    gaps = [run for run in _runs(np.flatnonzero(~seen.any(0))) if len(run) >= least]
    ends = [0, *(int(run[-1]) + 1 for run in gaps)]
    cuts = [
        run.mean() / width
        for run, before in zip(gaps, ends, strict=False)
        if legend or (tall[before : run[0]].any() and tall[run[-1] + 1 :].any())
    ]
    for count in (1, 2):
        wanted = [(i + 1) / (count + 1) for i in range(count)]
        fitting = [
            chosen for chosen in combinations(cuts, count) if max(np.diff([0, *chosen, 1])) <= PART
        ]
        if fitting:
            best = min(
                fitting,
                key=lambda found: sum(abs(np.subtract(found, wanted))),
            )
            ends = [0.0, *map(float, best), 1.0]
            return list(pairwise(ends))
    return []


def keep_marks(app, pagename, templatename, context, doctree):
    """Keep a formula in a line with the bracket before it and the marks behind it."""
    context["body"] = MARKED.sub(_unbroken, context.get("body", ""))


def _unbroken(match):
    marked = match["before"] or match["after"]
    return f'<span class="unbroken">{match[0]}</span>' if marked else match[0]


def keep_units(app, pagename, templatename, context, doctree):
    """Keep a number in a line with its unit; code, which may be copied, stays as it is."""
    context["body"] = UNIT.sub(
        lambda match: match[0] if match[1] else "\N{NO-BREAK SPACE}", context.get("body", "")
    )


def one_number(app, pagename, templatename, context, doctree):
    """Leave the paper's own number where a caption or a theorem has one."""
    body = SECOND_NUMBER.sub("", context.get("body", ""))
    context["body"] = THEOREM.sub(r'<span class="caption-number">\1</span>', body)


def skip_to_figures(app, pagename, templatename, context, doctree):
    """Let the keyboard go straight to the figures that can be changed."""
    names = BROWSER.findall(context.get("body", ""))
    links = "".join(
        f'<a class="skip-to-figure" href="#{name}">Skip to interactive figure {i}</a>'
        for i, name in enumerate(names, 1)
    )
    context["body"] = links + context.get("body", "")


def setup(app):
    """Called by Sphinx; after the page's body is made."""
    changes = (label_cells, fit_pictures, keep_marks, keep_units, one_number, skip_to_figures)
    for change in changes:
        app.connect("html-page-context", change, priority=800)
    app.add_js_file("fit_formulas.js")
    return {"parallel_read_safe": True}
