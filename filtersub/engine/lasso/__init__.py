"""The kernels of the exact LASSO."""
