"""Number formats: operands, products, sums, what each takes in cycles, and the multipliers they are made of."""
