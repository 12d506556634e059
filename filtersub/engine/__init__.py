"""Everything compiled, vector instructions, and threads: kernels that the mathematics above calls. See README.md."""
