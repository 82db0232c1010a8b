"""Lets docstrings hold |x| and p(·|y); in reStructuredText a bar opens a substitution."""

import re


def escape_bars(app, what, name, obj, options, lines):
    """Escape the bars of a docstring, but for those in code and in ``.. math::`` blocks."""
    in_math = False
    for number, line in enumerate(lines):
        if line and not line[0].isspace():
            in_math = line.startswith(".. math::")
        if not in_math:
            lines[number] = re.sub(r"(``.*?``)|\|", lambda match: match[1] or r"\|", line)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True}
