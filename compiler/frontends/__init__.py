"""Front ends: files of other tools as graphs of operators."""
