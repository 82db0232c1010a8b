"""Keeps the scripts of live code off the pages: they need a server, and are declared twice."""


def drop_thebe(app, pagename, templatename, context, doctree):
    """Take Thebe's scripts out of the list a page loads."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}".lower()
    ]


def setup(app):
    """Called by Sphinx; after all that add scripts."""
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True}
