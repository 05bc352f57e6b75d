"""Text that is shown: whatever a file or a folder is called, it steers no terminal."""


def printable(text: str) -> str:
    """Text in which nothing steers a terminal: names of files may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
