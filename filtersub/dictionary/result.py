"""What learning a dictionary returns."""

from dataclasses import dataclass

from torch import Tensor

from ..markup import atoms_html, codes_html, explore_hint, facts_html, square_boards
from ..percentages import percentage
from ..printable import counted


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
        Wall-clock time, without what happens once a process: imports, kernels that are compiled or loaded.
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

    def _repr_html_(self) -> str:
        """A table of what was found, with the atoms as pictures, for notebooks."""
        used = float((self.codes != 0).double().mean()) if self.codes.numel() else 0.0
        facts = [
            ("atoms", f"{self.atoms.shape[0]} of {self.atoms.shape[1]} numbers"),
            ("codes", f"{counted(self.codes.shape[0], 'row')}, {percentage(used)} not zero"),
            ("objective", f"{self.objective[-1]:.6g}, from {self.objective[0]:.6g}" if self.objective else ""),
            ("took", f"{counted(self.rounds, 'round')}, {self.seconds:.3g} s; {self.stopped}"),
            ("notes", "; ".join(self.notes)),
        ]
        codes = codes_html(self.codes, "row {}".format)
        return facts_html("Dictionary", facts, atoms_html(square_boards(self.atoms)) + codes + explore_hint())
