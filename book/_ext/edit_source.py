"""Point a chapter's "Suggest edit" button at the text that people edit.

The book shows book/NN_name.ipynb, which is generated; its source is
book/src/NN_name.md.
"""


def link_to_source(app, pagename, templatename, context, doctree):
    generated, source = f"/{pagename}.ipynb", f"/src/{pagename}.md"
    for entry in context.get("header_buttons", []):
        for button in entry.get("buttons", [entry]):
            if button.get("label") == "source-edit-button":
                button["url"] = button["url"].replace(generated, source)


def setup(app):
    # After the theme has made its buttons, at 501.
    app.connect("html-page-context", link_to_source, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
