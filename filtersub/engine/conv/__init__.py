"""What runs and differentiates layers with a summed weight on the CPU."""
