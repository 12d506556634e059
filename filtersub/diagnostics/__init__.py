"""How good a decomposition is, as tidy pandas tables (one observation a row); figures take those tables.

A file a question: ``layers`` (error, density, cost of each layer, the effect of m and of l), ``kernels`` (error of each
kernel, quantiles within layers), ``atoms`` (supports, use of each atom, coherence), ``spectrum`` (beside the best
subspace there is), ``outputs`` (error of a layer's output, what the rebuilt network predicts), ``tensor_formats`` (CP
and Tucker at equal storage), ``solvers`` (what each takes to the optimum), ``span`` (how much of a change of the
kernels filter atoms could have learnt).
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    atoms=("atom_table", "coherence_table", "correlation_table", "frequent_supports", "support_table", "welch_bound"),
    kernels=("correlation_quantiles", "kernel_quantiles", "kernel_table"),
    layers=(
        *("convergence_table", "cost_table", "error_curve", "layer_table", "level_table", "model_table"),
        *("penalty_path", "total_over_layers"),
    ),
    outputs=("agreement", "output_table", "prediction_table"),
    solvers=("gap_table", "solver_table"),
    span=("reach", "span_table", "span_total"),
    spectrum=("energy_table", "spectrum_table", "subspace_table"),
    tensor_formats=("storage_table",),
)
