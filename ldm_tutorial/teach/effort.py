"""How long an exercise takes: counted from its text and its answer, not wished.

A minute for every 100 words to read, a formula being one of them; and as many minutes
as the difficulty says, once to think and once more for every two lines to write.
"""

import math
import re

WORDS_A_MINUTE = 100


def words(prompt: str) -> int:
    """How many words a task has, each formula and each piece of code being one."""
    return len(re.sub(r"\$[^$]+\$|`[^`]+`", "m", prompt).split())


def most_lines(lines: str) -> int:
    """The larger number in words such as "3-4 lines"."""
    return max(int(number) for number in re.findall(r"\d+", lines))


def minutes(prompt: str, lines: str, difficulty: int) -> int:
    """Minutes that an exercise takes, as a whole number."""
    writing = difficulty * (1 + most_lines(lines) / 2)
    return math.ceil(words(prompt) / WORDS_A_MINUTE + writing)
