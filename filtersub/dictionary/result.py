"""What learning a dictionary returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DictionaryResult:
    """Learned atoms and the codes of all rows over them.

    Attributes
    ----------
    atoms : Tensor of shape (n_atoms, d), unit norm, in canonical order and sign (see ``canonical``)
    codes : Tensor of shape (n_rows, n_atoms), exact for these atoms where the solver is
    objective : tuple of float
        After each round on all rows, and for the result; a sum over rows. It never rises.
    rounds : int
        Rounds in all, those on parts of the rows included.
    seconds : float
        Wall-clock time, start to end.
    optimality : float
        Of the last coding, see CodingResult.
    converged : bool
        Whether the objective came to rest, by ``tol``, before the rounds were spent.
    stopped : str
        Why learning stopped, in words.
    notes : tuple of str
        What else is worth knowing: how the initial atoms were completed, a penalty that leaves no code.
    """

    atoms: Tensor
    codes: Tensor
    objective: tuple[float, ...]
    rounds: int
    seconds: float
    optimality: float
    converged: bool
    stopped: str = ""
    notes: tuple[str, ...] = ()
