"""The effort of a search: the one with the least work that finds the neighbours that are asked for.

Work is counted and not timed, so the same gallery is searched with the same effort whatever else the machine does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

# Work in multiplications of a matrix product, the unit: what one block of a code and one number of a candidate cost.
# ScaNN compares 32 codes with one instruction, and reads candidates from all over the memory.
CODED, REORDERED = 0.25, 4.0
LEAVES = (0.5, 1.0, 2.0)  # numbers of leaves that are tried, times the square root of the gallery's size


@dataclass(frozen=True)
class Gallery:
    """Size of a gallery: its pictures, the dimensions of a descriptor and those that ScaNN codes together."""

    pictures: int
    dimensions: int
    dimensions_per_block: int

    @property
    def leaves(self) -> list[int]:
        """Numbers of leaves to try, rising.

        >>> Gallery(10_000, 256, 2).leaves
        [50, 100, 200]
        """
        return [max(int(factor * self.pictures**0.5), 1) for factor in LEAVES]

    def tree(self, leaves: int, searched: float) -> float:
        """Work of a query to choose ``searched`` of the ``leaves`` and to compare the codes in them."""
        return leaves * self.dimensions + searched / leaves * self.codes

    @property
    def codes(self) -> float:
        """Work of a query to compare all codes, without a tree."""
        return CODED * self.pictures * self.dimensions / self.dimensions_per_block

    def reordering(self, candidates: float) -> float:
        """Work of a query to compute the similarity of so many candidates exactly."""
        return REORDERED * candidates * self.dimensions


@dataclass(frozen=True)
class Effort:
    """Leaves to search and candidates to re-order, and the ``recall`` that was measured with them."""

    leaves_to_search: int
    reorder: int
    recall: float


def least_effort(
    recall: Callable[[int, int], float],
    work: Callable[[int, int], float],
    leaves: tuple[int, int],
    reorder: tuple[int, int],
    aim: float,
) -> Effort:
    """The leaves to search and the candidates to re-order that reach ``aim`` with the least work.

    Args:
        recall: of a search with so many leaves and candidates; it does not fall with either.
        work: of the same search; it rises with both.
        leaves, reorder: the least and the most of each.

    Returns:
        The effort. If none reaches ``aim``, the least leaves, with the most candidates, that find as much as any.

    More leaves need fewer candidates, so after the least leaves that reach the aim, more of them are tried until
    their work with the fewest candidates is more than that of the best effort so far.

    >>> found = lambda leaves, candidates: 1 - 1 / (leaves * candidates)
    >>> least_effort(found, lambda leaves, candidates: 10 * leaves + candidates, (1, 50), (10, 500), 0.99)
    Effort(leaves_to_search=3, reorder=34, recall=0.9901960784313726)
    """
    fewest, most = reorder
    first = least(lambda count: recall(count, most), *leaves, aim)
    if first is None:
        reached = recall(leaves[1], most)
        first = least(lambda count: recall(count, most), *leaves, reached) or leaves[1]
        return Effort(first, most, recall(first, most))
    best, best_work = Effort(first, most, 0.0), float("inf")
    for count in _rising(first, leaves[1]):
        if work(count, fewest) >= best_work:
            break
        candidates = least(partial(recall, count), fewest, most, aim)
        if candidates is None:  # recall fell by chance, with more leaves
            continue
        if work(count, candidates) < best_work:
            best, best_work = Effort(count, candidates, recall(count, candidates)), work(count, candidates)
        most = candidates
    return best


def least(recall: Callable[[int], float], first: int, last: int, aim: float) -> int | None:
    """The least number from ``first`` to ``last`` whose ``recall``, which does not fall, reaches ``aim``; None if none.

    Small numbers, which are quick to search with, are tried first.

    >>> least(lambda number: number / 100, 1, 100, 0.37), least(lambda number: number / 100, 1, 30, 0.37)
    (37, None)
    """
    below, step = first - 1, 1
    while True:
        above = min(below + step, last)
        if recall(above) >= aim:
            break
        if above == last:
            return None
        below, step = above, 2 * step
    while above - below > 1:
        middle = (below + above) // 2
        if recall(middle) >= aim:
            above = middle
        else:
            below = middle
    return above


def _rising(first: int, last: int) -> Iterator[int]:
    """Numbers from ``first`` to ``last``, each about a tenth more than the one before.

    >>> list(_rising(8, 14)), list(_rising(30, 40))
    ([8, 9, 10, 11, 12, 13, 14], [30, 33, 36, 39, 40])
    """
    while first < last:
        yield first
        first = min(max(first + 1, int(first * 1.1)), last)
    yield last
