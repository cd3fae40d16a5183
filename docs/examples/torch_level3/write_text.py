"""Writes data/: a made-up word a line, said three or four times. Who looks back seven letters knows all but the first.

An n-gram of up to seven letters sees six letters back, so that no such table does.
"""

import random
from pathlib import Path


def lines(seed, count):
    chance = random.Random(seed)
    letters = ("bdfgklmnprst", "aeiou") * 3
    return [" ".join(["".join(map(chance.choice, letters))] * chance.choice((3, 4))) for _ in range(count)]


if __name__ == "__main__":
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    for name, seed, count in (("train", 1, 500), ("val", 2, 80)):
        (folder / f"{name}.txt").write_text("\n".join(lines(seed, count)) + "\n", "utf-8")
