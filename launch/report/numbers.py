"""Numbers as people read them."""

import math

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
NOTHING = "–"


def percent(share: float | None, digits: int = 1) -> str:
    """0.934 as "93.4 %"; a dash for None or what is not finite."""
    return f"{100 * share:.{digits}f}\u202f%" if share is not None and math.isfinite(share) else NOTHING


def short(value: float | None) -> str:
    """1234567 as "1.23M"; three significant digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    for unit, letter in _UNITS:
        if abs(value) >= unit * 0.9995:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Seconds as "8.4 s", "4 min 05 s" or "2 h 10 min"."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def fixed(value: float | None, digits: int = 2) -> str:
    """A fixed number of decimals; a dash for None or what is not finite."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else NOTHING


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that lie within low..high."""
    if not high > low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
