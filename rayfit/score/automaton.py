"""A suffix automaton of all rows in flat arrays: built and walked in time linear in the tokens.

`states` is int32 (num_states, 3): length of the longest run that leads here, link to the state of its longest
ending that stands in other places too (-1 at the root), first edge (-1 for none).
`edges` is int32 (num_edges, 4): from, token, to, next edge of the same state (-1 for none).
`slots` is int32, a power of two long: open addressing over (from, token), the edge or -1. One table for all
states keeps a state with one edge as cheap as one with thousands; the chains are there for cloning.
`used` is int64 (2,): states and edges in use.
"""

from __future__ import annotations

import numpy as np

from rayfit.score.compiled import compiled

# Columns of `states` and `edges`.
LENGTH, LINK, FIRST_EDGE = 0, 1, 2
FROM, TOKEN, TO, NEXT = 0, 1, 2, 3


@compiled
def find_slot(state: int, token: int, edges: np.ndarray, slots: np.ndarray) -> int:
    """The slot that holds edge (state, token), or the free one where it would go."""
    mask = len(slots) - 1
    # An odd constant near 2**64 over the golden ratio spreads neighbouring pairs over the table.
    mixed = (np.int64(state) * np.int64(2**31) + np.int64(token)) * np.int64(-7046029254386353131)
    slot = int((mixed >> np.int64(29)) & mask)
    while slots[slot] >= 0:
        edge = slots[slot]
        if edges[edge, FROM] == state and edges[edge, TOKEN] == token:
            break
        slot = (slot + 1) & mask
    return slot


@compiled
def add_edge(
    slot: int, state: int, token: int, target: int, states: np.ndarray, edges: np.ndarray, slots: np.ndarray,
    used: np.ndarray,
) -> None:  # fmt: skip
    edge = used[1]
    used[1] += 1
    slots[slot] = edge
    edges[edge, FROM], edges[edge, TOKEN], edges[edge, TO] = state, token, target
    edges[edge, NEXT] = states[state, FIRST_EDGE]
    states[state, FIRST_EDGE] = edge


@compiled
def reached(
    parent: int, edge: int, states: np.ndarray, edges: np.ndarray, slots: np.ndarray, used: np.ndarray
) -> int:
    """State of just the runs of `parent` plus the edge's token: the edge's target or a clone split off."""
    split, token = edges[edge, TO], edges[edge, TOKEN]
    if states[split, LENGTH] == states[parent, LENGTH] + 1:
        return split
    clone = used[0]
    used[0] += 1
    states[clone, LENGTH] = states[parent, LENGTH] + 1
    states[clone, LINK] = states[split, LINK]
    states[clone, FIRST_EDGE] = -1
    states[split, LINK] = clone
    copied = states[split, FIRST_EDGE]
    while copied >= 0:
        slot = find_slot(clone, edges[copied, TOKEN], edges, slots)
        add_edge(slot, clone, edges[copied, TOKEN], edges[copied, TO], states, edges, slots, used)
        copied = edges[copied, NEXT]
    while parent >= 0:
        edge = slots[find_slot(parent, token, edges, slots)]
        if edge < 0 or edges[edge, TO] != split:
            break
        edges[edge, TO] = clone
        parent = states[parent, LINK]
    return clone


@compiled
def extended(
    last: int, token: int, states: np.ndarray, edges: np.ndarray, slots: np.ndarray, used: np.ndarray
) -> int:
    """The state of the row read so far plus `token`, where `last` is the state of the row before it."""
    slot = find_slot(last, token, edges, slots)
    if slots[slot] >= 0:
        return reached(last, slots[slot], states, edges, slots, used)
    new = used[0]
    used[0] += 1
    states[new, LENGTH] = states[last, LENGTH] + 1
    states[new, LINK] = 0
    states[new, FIRST_EDGE] = -1
    while last >= 0:
        slot = find_slot(last, token, edges, slots)
        if slots[slot] >= 0:
            states[new, LINK] = reached(last, slots[slot], states, edges, slots, used)
            break
        add_edge(slot, last, token, new, states, edges, slots, used)
        last = states[last, LINK]
    return new


@compiled
def build(
    tokens: np.ndarray, offsets: np.ndarray, states: np.ndarray, edges: np.ndarray, slots: np.ndarray
) -> np.ndarray:
    """Fill the arrays and return `used`; they need room for 2 states (and one more) and 3 edges per token.

    Every row starts again at the root, so no path spells tokens of two rows.
    """
    used = np.array([1, 0])
    states[0, LENGTH], states[0, LINK], states[0, FIRST_EDGE] = 0, -1, -1
    slots[:] = -1
    for row in range(len(offsets) - 1):
        last = 0
        for i in range(offsets[row], offsets[row + 1]):
            last = extended(last, tokens[i], states, edges, slots, used)
    return used


@compiled
def longest_matches(
    tokens: np.ndarray, offsets: np.ndarray, states: np.ndarray, edges: np.ndarray, slots: np.ndarray
) -> np.ndarray:
    """Return, for each token of the texts, the longest run of its text that ends here and stands in a row; int64."""
    lengths = np.zeros(len(tokens), dtype=np.int64)
    for text in range(len(offsets) - 1):
        state = length = 0
        for i in range(offsets[text], offsets[text + 1]):
            edge = slots[find_slot(state, tokens[i], edges, slots)]
            while edge < 0 and state > 0:
                state = states[state, LINK]
                length = states[state, LENGTH]
                edge = slots[find_slot(state, tokens[i], edges, slots)]
            if edge >= 0:
                state = edges[edge, TO]
                length += 1
            lengths[i] = length
    return lengths


@compiled
def earlier_runs(tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return, for each token, the longest run ending here that also ends earlier in the same text; int64."""
    longest = np.zeros(len(tokens), dtype=np.int64)
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        # runs[j + 1]: how far the text up to i and the text up to start + j agree, read backwards.
        # Filled from the right, so that one array is enough.
        runs = np.zeros(end - start + 1, dtype=np.int64)
        for i in range(start, end):
            for j in range(i - start - 1, -1, -1):
                runs[j + 1] = runs[j] + 1 if tokens[start + j] == tokens[i] else 0
                longest[i] = max(longest[i], runs[j + 1])
    return longest
