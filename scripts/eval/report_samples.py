"""Single samples: where each reference lies, whether it was found, and where star lost.

Positions are tokens of the context, from 0. Block k (from 1) holds the tokens from (k - 1) *
block_size on; a seam is the first token of a block after the first.
"""

import collections
from typing import NamedTuple, Optional

N_BINS = 10
RIGHT = 1 - 1e-9  # a score from which on an answer is right in full
# Places of the table, each reference in one. What stands in the first two was encoded as full attention
# encodes it; only a block of the others has a seam behind which something is hidden.
BANDS = (64, 192)  # tokens behind such a seam
IN_ANCHOR, SEES_ALL = "in the anchor", "in other blocks that see all before them"
BEHIND = tuple(f"in other blocks, {name} tokens" for name in (f"first {BANDS[0]}", f"next {BANDS[1] - BANDS[0]}", "later"))
PLACES = (IN_ANCHOR, SEES_ALL, *BEHIND)


def seams(block_size, n_context):
    return range(block_size, n_context, block_size)


def block_number(at, block_size):
    return at // block_size + 1


def to_seam(at, block_size, n_context):
    """Tokens from the nearest seam to `at`: negative before it; None where there is no seam."""
    return min((at - seam for seam in seams(block_size, n_context)), key=abs, default=None)


def depth_bin(at, n_context):
    return min(N_BINS * at // n_context, N_BINS - 1)


def is_needle(task):
    return task.startswith("niah")


def holds(text, reference):
    return reference.lower() in text.lower()


class Reference(NamedTuple):
    """One reference of one sample under one setting."""
    task: str
    index: int
    text: str
    at: int
    n_context: int
    block_size: int
    anchor_size: int
    window: int
    overlap: int
    found: bool
    full_found: Optional[bool]  # under the run's reference setting; None: it lacks the sample

    @property
    def to_seam(self):
        return to_seam(self.at, self.block_size, self.n_context)

    @property
    def place(self):
        """Which of PLACES."""
        if self.at < self.anchor_size:
            return IN_ANCHOR
        # Its block sees the anchor, and all from the overlap before its window on.
        first_seen = self.block_size * max(self.at // self.block_size - self.window, 0) - self.overlap
        if first_seen <= self.anchor_size:
            return SEES_ALL
        return BEHIND[sum(self.at % self.block_size >= end for end in BANDS)]


def references_of(prediction, full=None):
    """Its references whose place in the context is known."""
    return [
        Reference(prediction["task"], prediction["index"], text, at, prediction["n_context"],
                  prediction["block_size"], prediction["anchor_size"], prediction["window"],
                  prediction["overlap"], holds(prediction["pred"], text), full and holds(full["pred"], text))
        for text, at in zip(prediction["outputs"], prediction["reference_at"])
        if 0 <= at < prediction["n_context"]
    ]


def needles(run, length, setting):
    """The references of the niah tasks."""
    full = run.samples(length, run.reference)
    return [reference for key, one in run.samples(length, setting).items() if is_needle(one["task"])
            for reference in references_of(one, full.get(key))]


def cells(run, setting):
    """{(length, depth bin): (number found, number of references)} of the niah tasks."""
    counts = collections.defaultdict(lambda: [0, 0])
    for length in run.lengths:
        for one in needles(run, length, setting):
            count = counts[length, depth_bin(one.at, one.n_context)]
            count[0] += one.found
            count[1] += 1
    return {key: tuple(count) for key, count in counts.items()}


def paired(run, length, references):
    """Those that the length's reference setting has too; all where it has none."""
    alone = run.reference_at(length) is None
    return [one for one in references if alone or one.full_found is not None]


class Count(NamedTuple):
    """References of one place."""
    n: int
    found: int
    full: int  # found by full attention
    lost: int  # found by full attention alone
    won: int  # found by star alone


def by_place(references):
    """{place: Count}"""
    counts = {}
    for place in PLACES:
        own = [(one.found, bool(one.full_found)) for one in references if one.place == place]
        counts[place] = Count(len(own), sum(found for found, _ in own), sum(full for _, full in own),
                              own.count((False, True)), own.count((True, False)))
    return counts


def usual_plan(references):
    """The most frequent (block_size, anchor_size), and the references under it."""
    counts = collections.Counter((one.block_size, one.anchor_size) for one in references)
    plan = counts.most_common(1)[0][0]
    return plan, [one for one in references if (one.block_size, one.anchor_size) == plan]


class Comparison(NamedTuple):
    """Sample by sample against full attention."""
    n_pairs: int
    lost: list  # predictions that full attention has right in full, and the setting has not
    n_won: int  # the other way round
    n_lower: int  # samples that score lower than under full attention, and so on
    n_higher: int
    n_same_text: int


def compare(run, length, setting):
    full = run.samples(length, run.reference)
    pairs = [(one, full[key]) for key, one in run.samples(length, setting).items() if key in full]
    return Comparison(
        len(pairs),
        [one for one, other in pairs if other["score"] >= RIGHT > one["score"]],
        sum(one["score"] >= RIGHT > other["score"] for one, other in pairs),
        sum(one["score"] < other["score"] for one, other in pairs),
        sum(one["score"] > other["score"] for one, other in pairs),
        sum(one["pred"] == other["pred"] for one, other in pairs))


def missed(prediction):
    """The references that its answer lacks; all of them where it lacks none and is wrong still."""
    found = [one for one in references_of(prediction) if not one.found]
    return found or references_of(prediction)
