"""Names of features, for those who read records and compute nothing."""

#: features of which a Fréchet distance is the FID
INCEPTION = "inception-2048"
