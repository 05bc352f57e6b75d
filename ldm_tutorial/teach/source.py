"""Show the library's own, tested code in a notebook."""

import inspect
import textwrap
from collections.abc import Callable


def show_source(*objects: Callable | type):
    """Display the source of functions or classes, without their docstrings' text being
    run or copied: what is shown is what runs."""
    from IPython.display import Markdown

    texts = [textwrap.dedent(inspect.getsource(o)).rstrip() for o in objects]
    return Markdown("```python\n" + "\n\n\n".join(texts) + "\n```")
