"""A corpus of Chinese words: texts cut by the word tokenizer's rules (rjieba), joined with spaces, lines kept.

Run it: python benchmarks/quality/word_corpus.py OUT TEXT [TEXT ...]
Each TEXT is what `elman train` reads, in any encoding (the figures of docs/results.md: zh_hongloumeng.gbk.txt and
zh_shuihu.txt, in this order). Prints how many tokens OUT has for `--tokenizer word --word-splitter whitespace`, a line
end being one, and how many distinct words. Lines without text are left out. Needs rjieba: python -m pip install '.[zh]'
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from elman.text.sources import open_text
from elman.text.tokenizers.segmenter import Segmenter
from elman.text.tokenizers.splitters import LINE_END, UnicodeSplitter


def word_lines(lines: Iterable[str]) -> Iterator[list[str]]:
    """The words of each line that has any; punctuation marks are words, white space is none."""
    splitter = UnicodeSplitter(Segmenter())
    for line in lines:
        words = [word for word in splitter.cut(line) if not word.isspace()]
        if words:
            yield words


def write_corpus(out: Path, texts: list[str]) -> Counter[str]:
    """Write the corpus -> how often each word is in it, line ends included."""
    counts: Counter[str] = Counter()
    with out.open("w", encoding="utf-8") as file:
        for words in word_lines(open_text(texts).read().split("\n")):
            file.write(" ".join(words) + "\n")
            counts.update([*words, LINE_END])
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    options = parser.parse_args()
    counts = write_corpus(options.out, options.texts)
    most = 10_000
    kept = sum(count for _, count in counts.most_common(most))
    print(f"{options.out}: {counts.total():,} tokens, {len(counts):,} distinct words")
    print(f"the {most:,} most frequent are {kept / counts.total():.1%} of the tokens")


if __name__ == "__main__":
    main()
