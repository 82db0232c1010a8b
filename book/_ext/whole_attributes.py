"""Keeps the docstrings of attributes whole.

Napoleon takes what stands before a colon in their first line for a type. Types are annotated here,
and such a line is a sentence.
"""

NAPOLEON = 500  # the priority of its handler


def begin_with_nothing(app, what, name, obj, options, lines):
    """Put a first line before the text that has no colon and shows nothing: an escaped space."""
    if lines and what in ("attribute", "data", "property"):
        lines.insert(0, r"\ ")


def setup(app):
    """Called by Sphinx."""
    before = NAPOLEON - 1
    app.connect("autodoc-process-docstring", begin_with_nothing, priority=before)
    return {"parallel_read_safe": True}
