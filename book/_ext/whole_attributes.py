"""Keeps the docstrings of attributes whole.

Napoleon takes what stands before a colon in their first line for a type. Types are annotated here,
and such a line is a sentence.
"""

NAPOLEON = 500  # the priority of its handler


def begin_with_an_empty_line(app, what, name, obj, options, lines):
    """Leave nothing in the first line that could be taken for a type."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")


def setup(app):
    """Called by Sphinx."""
    before = NAPOLEON - 1
    app.connect("autodoc-process-docstring", begin_with_an_empty_line, priority=before)
    return {"parallel_read_safe": True}
