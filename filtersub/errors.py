"""The errors that users can cause, each one clear line that names the bad value and the fix."""


class FiltersubError(ValueError):
    """Bad input: the command line prints its message as one line and exits with code 2."""


class LossNotFinite(FiltersubError):
    """Training stopped at a loss that is no number; the state after the last whole epoch is kept."""


class WeightFileWarning(UserWarning):
    """What was taken out of a file of weights, where it holds more than one thing or in another layout."""


class ConvergenceWarning(UserWarning):
    """A solver spent its iterations before it met its tolerance; its result says how far off it is."""
