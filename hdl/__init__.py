"""Amaranth generators: arrays of processing elements and the shell around them."""
