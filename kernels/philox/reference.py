"""Philox-4x32-10 on Python's integers, as the paper writes it: the oracle of the vectorised code."""

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)

Words = tuple[int, int, int, int]


def philox_4x32(counter: Words, key: tuple[int, int], rounds: int = 10) -> Words:
    """Four random 32-bit words of one counter (Salmon, Moraes, Dror, Shaw 2011, section 3.3 and table 2).

    counter: four integers 0..2**32-1; key: two of them.
    """
    left0, right0, left1, right1 = counter
    key0, key1 = key
    for _ in range(rounds):
        product0, product1 = _MULTIPLIERS[0] * left0, _MULTIPLIERS[1] * left1
        left0, right0 = (product1 >> 32) ^ right0 ^ key0, product1 & _MASK
        left1, right1 = (product0 >> 32) ^ right1 ^ key1, product0 & _MASK
        key0, key1 = (key0 + _WEYL[0]) & _MASK, (key1 + _WEYL[1]) & _MASK
    return left0, right0, left1, right1


def coin(words: Words, position: int, channel: int, threshold: int) -> bool:
    """Whether `bernoulli.packed_bernoulli` sets the bit of one channel; words: those of its row."""
    key0, key1, counter2, counter3 = words
    output = philox_4x32((position, channel // 8, counter2, counter3), (key0, key1))
    which = channel % 8
    return (output[which // 2] >> (16 * (which % 2))) & 0xFFFF < threshold
