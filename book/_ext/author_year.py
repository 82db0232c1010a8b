"""Labels of the bibliography as the text cites: author and year."""

from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle


class AuthorYearLabels(BaseLabelStyle):
    """``Ohayon et al., 2023``."""

    def format_labels(self, sorted_entries):
        """A label for each entry."""
        for entry in sorted_entries:
            names = [" ".join(person.last_names) for person in entry.persons["author"]]
            shown = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
            yield f"{shown}, {entry.fields['year']}".replace("{", "").replace("}", "")


class AuthorYear(Style):
    """The plain style with those labels."""

    default_label_style = AuthorYearLabels


def setup(app):
    """Called by Sphinx."""
    register_plugin("pybtex.style.formatting", "author_year", AuthorYear)
    return {"parallel_read_safe": True}
