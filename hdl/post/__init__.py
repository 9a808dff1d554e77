"""Post-processing: from sums to outputs, the same for every kind of array that has it."""
