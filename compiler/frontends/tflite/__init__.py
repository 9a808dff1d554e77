"""TensorFlow Lite files as graphs: what a file holds, what each of its operators is here, and the walk over them."""
