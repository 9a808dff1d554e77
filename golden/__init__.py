"""NumPy golden models: the definition of what the hardware must compute, and what it costs.

=========================  ===========================================================================
module                   what it defines
=========================  ===========================================================================
:mod:`.integer`            exact integer sums: add, Gemm, Linear, convolution, transposed convolution
:mod:`.fixed_point`        convolution of 16-bit words with 16-bit sums, as Eyeriss
:mod:`.pool`               maximum of windows; sums and counts that averages are made of
:mod:`.requantise`         the two rules from a sum to an output: onnxruntime's and TensorFlow Lite's
:mod:`.quantise`           real numbers to quantised ones and back
:mod:`.quantised`          add, average pooling and softmax of quantised tensors, as onnxruntime
:mod:`.reduction`          sums and means along axes, and where float32 additions can't give another output
:mod:`.activation`         clamps, and tables for sigmoid, tanh, GELU and leaky ReLU
:mod:`.floating`           float contractions in the array's own order
:mod:`.attention`          softmax and attention, in one pass and in two
:mod:`.rotary`             rotary position embedding, of floats and of bytes
:mod:`.gradients`          gradients of Linear, convolution, softmax and of what was gathered, of floats
:mod:`.float_steps`        float32 arithmetic, step by step, that a lane has instructions for
:mod:`.float_functions`    exponential, logarithm, activations and their derivatives, out of such steps
:mod:`.activation_gradients`  gradients by these derivatives
:mod:`.pool_gradients`     gradients of maximum and average pooling
:mod:`.float_normalisation`  LayerNorm and RMSNorm of floats, and their gradients
:mod:`.attention_gradients`  gradients of attention from the maximum and the sum of each row
:mod:`.loss`               softmax with cross-entropy, and its gradient
:mod:`.optimisers`         steps of SGD and Adam, and the factor of a loss
:mod:`.rounding`           float32 to bfloat16, float16 and FP8, to the nearest or at random
:mod:`.integer_gradients`  exact integer gradients of Linear and convolution
:mod:`.cost`               multiply-accumulates, weights and shapes in closed form
:mod:`.row_stationary`     mappings of a row-stationary array, and their accesses
:mod:`.run_length`         code of feature maps in DRAM, as Eyeriss writes them
:mod:`.models`             layer tables of AlexNet and VGG-16
=========================  ===========================================================================

Every function is pure, takes NumPy arrays in ONNX's layouts, and raises :class:`ValueError` with one
line that names the field, its value and what is allowed.
"""
