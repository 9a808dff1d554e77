"""NumPy golden models: the definition of what the hardware must compute, and what it costs."""
