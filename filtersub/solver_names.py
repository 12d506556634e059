"""Names of the solvers and of the kinds of coefficients. They stand here so that a help page needs no torch."""

#: solver -> what it solves: "penalty" (l1_penalty), "support" (n_nonzero or max_residual) or "linear"
SOLVERS: dict[str, str] = {
    "lasso": "penalty",
    "fista": "penalty",
    "ista": "penalty",
    "spams": "penalty",
    "spams-cd": "penalty",
    "sklearn": "penalty",
    "mp": "support",
    "omp": "support",
    "ormp": "support",
    "spams-omp": "support",
    "pca": "linear",
    "ridge": "linear",
}
#: solver of a decomposition -> kind of its coefficients: as above, or "random"
CODES: dict[str, str] = {**SOLVERS, "random": "random"}
