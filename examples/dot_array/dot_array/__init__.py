"""Dot-product units of K products each, whose sums stay where they are until they are finished: a kind of array.

The package is a plug-in of pearray: ``docs/extending.md`` of pearray walks through it.
"""
