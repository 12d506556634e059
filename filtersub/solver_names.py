"""Names of solvers, starts, learners and methods. They stand here so that a help page needs no torch."""

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
#: how initial atoms are made, and how atoms are learned
INITS = ("rows", "pca", "kmeans++", "dct", "fourier-bessel")
LEARNERS = ("alternating", "ksvd", "approximate-ksvd", "online")
MAX_ROUNDS, TOL = 1000, 1e-5  # defaults of learn_dictionary and of every recipe
EXPANSION_COEFFICIENTS = ("shared", "per-channel")
EXPANSION_LAYERS = ("spatial", "all")
#: how the coefficients of expanded atoms start when they are tuned
EXPANSION_INITS = ("uniform", "fan-in-normal")
#: what can be tuned; methods.METHODS says what each is
METHODS = (
    *("filter-subspace", "linear", "full", "bitfit", "norm", "ssf", "conv-adapter", "lora", "lora-loralib", "dora"),
    *("loha", "lokr", "oft", "boft", "adalora", "tucker-lora", "tucker-loha", "tucker-lokr", "hra", "hira", "ia3"),
)
#: what can be tuned of a diffusion network. AdaLoRA hands its ranks on through peft's wrapper of a whole model, and a
#: pipeline keeps its own UNet
OF_GENERATION = (
    *("none", "full", "filter-subspace", "lora", "dora", "loha", "lokr", "oft", "boft", "hra", "hira", "ia3"),
    "lora-loralib",  # the paper's form of LoRA by both readings
)
