"""Whether a file is a whole image, by its first and last bytes alone.

That finds what is empty, cut off or something else, and costs a hundredth of decoding;
only a file whose ends do not show that it is whole is decoded. What is wrong between
the ends is found when the image is used.
"""

import os
import stat

from ldm_tutorial.data.images import decode, reason

# Format: how a file begins, and how it ends (within its last bytes).
ENDS = (
    (b"\xff\xd8\xff", b"\xff\xd9"),
    (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    (b"GIF8", b";"),
)
TAIL = 64  # bytes at the end in which the mark may lie: some writers add a few


HOW = os.O_RDONLY  # and without waiting for whoever writes to a pipe
for flag in ("O_BINARY", "O_NONBLOCK", "O_CLOEXEC"):
    HOW |= getattr(os, flag, 0)


def what_is_wrong(path: str | os.PathLike) -> str:
    """Why a file is no whole image; "" if nothing speaks against it."""
    try:
        file = os.open(path, HOW)
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                return "it is no regular file"
            start = os.read(file, 16)
            os.lseek(file, max(0, info.st_size - TAIL), os.SEEK_SET)
            end = os.read(file, TAIL)
        finally:
            os.close(file)
    except OSError as error:
        return str(error.strerror).lower()
    if not start:
        return "it is empty"
    for head, tail in ENDS:
        if start.startswith(head) and tail in end:
            return ""
    length = int.from_bytes(start[4:8], "little") + 8
    if (start[:4], start[8:12]) == (b"RIFF", b"WEBP") and info.st_size >= length:
        return ""
    try:  # cut off, with something behind its end, or another format: few are
        decode(path, 64)
    except Exception as error:  # broken files make decoders fail in many ways
        return reason(error, path)
    return ""
