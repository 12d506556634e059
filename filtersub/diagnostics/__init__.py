"""How good a decomposition is, as tidy pandas tables (one observation a row); figures take those tables.

A file a question: ``layers`` (error, density, cost of each layer), ``kernels`` (error of each kernel, quantiles within
layers), ``atoms`` (supports, use of each atom, coherence), ``spectrum`` (beside the best subspace there is),
``outputs`` (error of a layer's output, what the rebuilt network predicts), ``tensor_formats`` (CP and Tucker at equal
storage), ``penalties`` (the effect of l), ``solvers`` (what each takes to the optimum), ``span`` (how much of a change
of the kernels filter atoms could have learnt).
"""

from .atoms import atom_table, coherence_table, correlation_table, frequent_supports, support_table, welch_bound
from .kernels import correlation_quantiles, kernel_quantiles, kernel_table
from .layers import convergence_table, cost_table, error_curve, layer_table, level_table, model_table
from .outputs import agreement, output_table, prediction_table
from .penalties import penalty_path, total_over_layers
from .solvers import gap_table, solver_table
from .span import reach, span_table, span_total
from .spectrum import energy_table, spectrum_table, subspace_table
from .tensor_formats import storage_table

__all__ = [
    "agreement",
    "atom_table",
    "coherence_table",
    "convergence_table",
    "correlation_quantiles",
    "correlation_table",
    "cost_table",
    "energy_table",
    "error_curve",
    "frequent_supports",
    "gap_table",
    "kernel_quantiles",
    "kernel_table",
    "layer_table",
    "level_table",
    "model_table",
    "output_table",
    "penalty_path",
    "prediction_table",
    "reach",
    "solver_table",
    "span_table",
    "span_total",
    "spectrum_table",
    "storage_table",
    "subspace_table",
    "support_table",
    "total_over_layers",
    "welch_bound",
]
