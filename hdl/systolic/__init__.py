"""The systolic array, weight- or output-stationary at run time, with the memories around it."""
