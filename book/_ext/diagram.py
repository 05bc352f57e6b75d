"""The directive ``{diagram} NAME`` shows a diagram of `ldm_tutorial.teach.diagrams`
on a page that is no notebook, drawn when the book is built."""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Diagram(SphinxDirective):
    """Its argument is the name of a function of the module."""

    required_arguments = 1

    def run(self):
        from ldm_tutorial.teach import diagrams

        draw = getattr(diagrams, self.arguments[0], None)
        if draw is None:
            raise self.error(f"there is no diagram {self.arguments[0]!r}")
        return [nodes.raw("", draw()._repr_html_(), format="html")]


def setup(app):
    app.add_directive("diagram", Diagram)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
