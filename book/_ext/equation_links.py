"""Makes ``Eq. 7`` in a docstring a link to that equation's place on the page of equations."""

import re

MENTION = re.compile(r"(``.*?``|:math:`.*?`)|\bEq\. (\d+)\b")


def link_equations(app, what, name, obj, options, lines):
    """Link what a docstring names, but for code and formulas."""
    in_math = False
    for number, line in enumerate(lines):
        if line and not line[0].isspace():
            in_math = line.startswith(".. math::")
        if not in_math:
            lines[number] = MENTION.sub(_link, line)


def _link(match):
    return match[1] or f":ref:`Eq. {match[2]} <eq-{match[2]}>`"


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", link_equations)
    return {"parallel_read_safe": True}
