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
PART = 0.62  # share of a picture that a narrow screen shows at a legible size
NARROW = 520  # pixels; pictures that are no wider are shown whole


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
        shares = parts(pixels)
        if not shares:
            return image
        height, width = pixels.shape[:2]
        cut = "".join(_part(match[1], clear, share, shares, width / height) for share in shares)
        return f'<span class="parts">{image}{cut}</span>'

    context["body"] = PICTURE.sub(fit, context.get("body", ""))


def _part(source, kind, share, shares, aspect):
    left, right = share
    size = right - left
    widest = max(b - a for a, b in shares)
    place = 100 * left / (1 - size)
    style = (
        f"background-image:url('{source}');background-size:{100 / size:.3f}% auto;"
        f"background-position-x:{place:.3f}%;aspect-ratio:{size * aspect:.4f};"
        f"width:{100 * size / widest:.2f}%"
    )
    return f'<span class="part {kind}" style="{style}"></span>'


def parts(pixels):
    """The left and right ends of the parts of a picture, in shares of its width.

    Args:
        pixels: RGBA, (H, W, 4).

    Returns:
        Two or three parts, cut in columns that show nothing; none where the picture is narrow, or
        has no such columns where they would help.
    """
    width = pixels.shape[1]
    if width <= NARROW:
        return []
    seen = (pixels[..., 3] > 8) & (pixels[..., :3] < 248).any(-1)
    empty = np.flatnonzero(np.append(~seen.any(0), False))
    runs = np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1)
    cuts = [run.mean() / width for run in runs if len(run) >= 4]
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
    for change in (label_cells, fit_pictures, one_number, skip_to_figures):
        app.connect("html-page-context", change, priority=800)
    app.add_js_file("fit_formulas.js")
    return {"parallel_read_safe": True}
