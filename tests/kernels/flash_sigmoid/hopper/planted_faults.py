"""Faults of the forward kernel, each as pieces of its source and what they become."""


def lines(*texts, indent=4):
    return "".join(f"{' ' * indent}{text}\n" for text in texts)


def dropped(line, following, indent=4):
    """A line is left out, the one that stands before `following`."""
    return {lines(line, following, indent=indent): lines(following, indent=indent)}


def swapped(first, second, indent=4):
    return {lines(first, second, indent=indent): lines(second, first, indent=indent)}


KEYS_ARRIVE = "mbarrier.wait(key_full.index(slot), phase)"
VALUES_ARRIVE = "mbarrier.wait(value_full.index(slot), phase)"
QUERIES_ARRIVE = "mbarrier.wait(query_full.index(GROUP), done & 1)"
SLOT_IS_EMPTY = "mbarrier.wait(empty.index(slot), ((num_before // STAGES) & 1) ^ 1)"
EXPECT_BYTES = "mbarrier.expect(full.index(slot), desc.block_type.nbytes)"
MY_TURN = "mbarrier.wait(turns.index(GROUP), (num_steps & 1) ^ (1 - GROUP))"
FREE_KEYS = "mbarrier.arrive(key_empty.index(slot), count=1)"
FREE_VALUES = "mbarrier.arrive(value_empty.index(slot_before), count=1)"
FREE_QUERIES = "mbarrier.arrive(query_empty.index(GROUP), count=1)"
SCORES_ARE_THERE = "s = warpgroup_mma_wait(1, deps=[s])"
OUTPUT_IS_THERE = "o, p, next_p = warpgroup_mma_wait(0, deps=[o, p, next_p])"
FULL_END = "full_end = gl.maximum(first + right + 1, 0) // N"

FAULTS = {
    "keys are not waited for": dropped(KEYS_ARRIVE, MY_TURN),
    "the first keys are not waited for": dropped(
        KEYS_ARRIVE, "s = warpgroup_mma_wait(0, deps=[scores(rows, key.index(slot))])"
    ),
    "values are not waited for": dropped(VALUES_ARRIVE, OUTPUT_IS_THERE),
    "queries are not waited for": {lines(QUERIES_ARRIVE, indent=8): ""},
    "scores are used before they are there": dropped(SCORES_ARE_THERE, FREE_KEYS),
    "a slot is filled before it is empty": dropped(
        SLOT_IS_EMPTY, "mbarrier.expect(full.index(slot), desc.block_type.nbytes)"
    ),
    "queries are replaced while in use": {lines("mbarrier.wait(query_empty.index(i), (done & 1) ^ 1)", indent=12): ""},
    "bytes are not announced": {lines(EXPECT_BYTES): lines("mbarrier.arrive(full.index(slot), count=1)")},
    "the copier waits for the other phase": {
        SLOT_IS_EMPTY: "mbarrier.wait(empty.index(slot), (num_before // STAGES) & 1)"
    },
    "keys of the other phase": {
        lines(KEYS_ARRIVE, MY_TURN): lines("mbarrier.wait(key_full.index(slot), phase ^ 1)", MY_TURN)
    },
    "both groups begin": {MY_TURN: "mbarrier.wait(turns.index(GROUP), (num_steps & 1) ^ 1)"},
    "neither group begins": {MY_TURN: "mbarrier.wait(turns.index(GROUP), num_steps & 1)"},
    "keys are released before the product is through": swapped(SCORES_ARE_THERE, FREE_KEYS),
    "values are released before the product is through": swapped(OUTPUT_IS_THERE, FREE_VALUES),
    "queries are released before the last product": {
        lines(FREE_QUERIES, indent=8): "",
        lines("if HAS_LEFT:", "    for tile in range(begin + 1, full_begin):", indent=8): lines(
            FREE_QUERIES, "if HAS_LEFT:", "    for tile in range(begin + 1, full_begin):", indent=8
        ),
    },
    "one group's word is enough to empty a slot": {
        "key_empty = barriers(STAGES, 2)": "key_empty = barriers(STAGES, 1)"
    },
    "values of this tile meet weights of the last": {
        "warpgroup_mma(p, value.index(slot_before)": "warpgroup_mma(p, value.index(slot)"
    },
    "the edge of the band is cut off": {"after <= right": "after < right"},
    "a tile that needs a mask goes without": {FULL_END: "full_end = gl.cdiv(gl.maximum(first + right + 1, 0), N)"},
}
