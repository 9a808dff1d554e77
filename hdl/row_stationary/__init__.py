"""Row-stationary array, after Eyeriss (JSSC 2017): independent PEs, multicast networks, psum chains.

==================  ================================================================================
module              what it holds
==================  ================================================================================
:mod:`.scratchpad`  scratchpad of a PE: filled like a queue, read in windows that move
:mod:`.beats`       words to and from beats of a bus
:mod:`.mac`         sums of windows: ifmap and filter scratchpads, multiplier, sequence
:mod:`.chain`       sums of PEs above one another: psum scratchpad and adder
:mod:`.pe`          processing element: the two together
:mod:`.row`         row of PEs, and its part of the networks
:mod:`.array`       R x C PEs between the networks and the global buffer
:mod:`.walk`        nested loops and the addresses they walk
:mod:`.buffer`      global buffer of banks that several clients share
:mod:`.feeders`     what feeds each network from the buffers
:mod:`.setups`      what brings the setups of PEs
:mod:`.drain`       what takes sums back to the global buffer
:mod:`.run_length`  coder and decoder between feature maps on chip and in DRAM
:mod:`.passes`      pass command, and the engine that works through passes
==================  ================================================================================
"""
