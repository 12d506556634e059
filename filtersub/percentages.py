"""Fractions as percentages, in one form wherever a reader meets one: ``98.5 %``, with a space that does not break."""

NBSP = "\N{NO-BREAK SPACE}"


def percentage(value: float, digits: int = 1, *, signed: bool = False) -> str:
    """A fraction in percent, with so many decimals; ``signed`` shows the plus too.

    >>> percentage(0.9846).split(), percentage(-0.0235, 2).split(), percentage(0.05, 0, signed=True).split()
    (['98.5', '%'], ['−2.35', '%'], ['+5', '%'])
    """
    return f"{hundredths(value, digits, signed=signed)}{NBSP}%"


def in_points(value: float, *, signed: bool = True) -> str:
    """A difference of percentages in percentage points: 42 % is 2.0 points above 40 %.

    >>> in_points(0.02)
    '+2.0 points'
    """
    return f"{hundredths(value, signed=signed)} points"


def hundredths(value: float, digits: int = 1, *, signed: bool) -> str:
    """A fraction times 100, without a unit."""
    return f"{100 * value:{'+' if signed else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")
