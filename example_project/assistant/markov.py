"""A generator that needs nothing but a text: which words may follow the last two? It knows no more.

A Markov chain of order two, over `text/roastery.txt`, which was written for this example.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TEXT = Path(__file__).parent / "text" / "roastery.txt"
MOST_WORDS = 160
Pair = tuple[str, str]


@cache
def chain() -> dict[Pair, list[str]]:
    """By each pair of words that follow each other the words that come next, as often as they do."""
    words = TEXT.read_text(encoding="utf-8").split()
    following: dict[Pair, list[str]] = defaultdict(list)
    for first, second, third in zip(words, words[1:], words[2:], strict=False):
        following[first, second].append(third)
    return dict(following)


def words(question: str, dice: random.Random) -> Iterator[str]:
    """Words that begin at one of the question's, if the text has it, and end with a sentence."""
    asked = {word.lower() for word in re.findall(r"\w{4,}", question)}
    sentences = [pair for pair in chain() if pair[0][0].isupper()]
    starts = [pair for pair in chain() if re.sub(r"\W", "", pair[0]).lower() in asked]
    first, second = dice.choice(starts or sentences)
    yield first[0].upper() + first[1:]
    yield second
    for count in range(MOST_WORDS):
        following = chain().get((first, second))
        # The text ends here: another sentence.
        first, second = (second, dice.choice(following)) if following else dice.choice(sentences)
        if not following:
            yield first
        yield second
        if count > MOST_WORDS // 2 and second.endswith((".", "?", "!")):
            return
