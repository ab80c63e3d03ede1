"""What ``ops`` computes, written out for one image."""

from __future__ import annotations

import numpy as np


def plain_farthest(distance, count):
    """One image's greedy max-min choice."""
    size = len(distance)

    def first(i):
        return min(distance[i][j] for j in range(size) if j != i)

    chosen = [max(range(size), key=lambda i: (first(i), -i))]
    while len(chosen) < count:
        rest = [i for i in range(size) if i not in chosen]
        chosen.append(max(rest, key=lambda i: (min(distance[i][j] for j in chosen), -i)))
    return chosen


def plain_thinning(similarity, order, keep, step):
    """One image's thinning by halves."""
    order = list(order)
    while len(order) > keep:
        even, odd = order[::2], order[1::2]
        alike = sorted(even, key=lambda i: -max(similarity[i][j] for j in odd))
        order = alike[min(step, len(order) - keep, len(even)) :] + odd
    return order


def plain_folding(tokens, remove, protect=False):
    """One image's folding: members of each output token, in order."""
    groups = [[i] for i in range(len(tokens))]
    while remove:
        means = [np.mean([tokens[i] for i in group], axis=0) for group in groups]
        unit = [mean / np.linalg.norm(mean) for mean in means]
        best = {}
        for a in range(0, len(groups), 2):
            into = max(range(1, len(groups), 2), key=lambda b: float(unit[a] @ unit[b]))
            best[a] = (float(unit[a] @ unit[into]), into)
        order = sorted(best, key=lambda a: (protect and a == 0, -best[a][0]))
        now = min(remove, (len(groups) - 1) // 2)
        for a in order[:now]:
            groups[best[a][1]] = groups[best[a][1]] + groups[a]
        groups = [group for a, group in enumerate(groups) if a not in order[:now]]
        remove -= now
    return [sorted(group) for group in groups]


def plain_coverage(cover, weight, count, last=()):
    """One image's greedy coverage; ``last`` are taken when no others are left."""
    rows, tokens = len(cover), range(len(weight))
    best = [0.0] * rows
    chosen = []

    def gain(j):
        return weight[j] * sum(max(0.0, cover[r][j] - best[r]) for r in range(rows))

    while len(chosen) < count:
        rest = [j for j in tokens if j not in chosen]
        chosen.append(max(rest, key=lambda j: (j not in last, 0.0 if j in last else gain(j), -j)))
        best = [max(b, row[chosen[-1]]) for b, row in zip(best, cover, strict=True)]
    return chosen
