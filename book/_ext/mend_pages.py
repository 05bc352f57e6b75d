r"""Small repairs of what the theme and its extensions write into a page.

* The badge "Open in Colab" comes from the book itself, so that a page opened from a
  disk asks no server for anything. The notebook keeps the address that works there.
* A folded cell is named by the words on it ("Show code cell source"), which its
  general label hid from screen readers.
* The number of an equation of several lines, \tag{3.1}, stands behind the environment
  that Sphinx puts around its lines, inside which MathJax takes none.
* A plot stands in a box of its own, which scrolls on a phone, so that its letters keep
  a size that can be read; a keyboard reaches it.
* The items of the bibliography are items of a list, as its container says it is.
"""

import re

REMOTE_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
REPAIRS = {
    ' aria-label="Toggle hidden content"': "",
    'role="doc-biblioentry"': 'role="listitem"',
}
NUMBERED = re.compile(
    r"(\\begin\{split\}(?:(?!\\end\{split\}).)*?)(\\tag\{[^}]*\})"
    r"((?:(?!\\end\{split\}).)*\\end\{split\})",
    flags=re.DOTALL,
)
PLOT = re.compile(
    r'^<img alt="[^>]*" src="[^">]*_images/[^">]*\.png" />$', re.MULTILINE
)
BOX = r'<div class="ldm-plot" role="group" aria-label="Plot" tabindex="0">\g<0></div>'


def mended(body, badge):
    """The HTML of a page's text; ``badge`` is the address of the book's own picture."""
    for wrong, right in REPAIRS.items():
        body = body.replace(wrong, right)
    body = NUMBERED.sub(r"\1\3\2", body)
    body = PLOT.sub(BOX, body)
    local = f'src="{badge}" width="117" height="20"'
    return body.replace(f'src="{REMOTE_BADGE}"', local)


def mend(app, pagename, templatename, context, doctree):
    if "body" in context:
        badge = context["pathto"]("_static/colab-badge.svg", 1)
        context["body"] = mended(context["body"], badge)


def setup(app):
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
