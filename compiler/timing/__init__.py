"""When commands run: the shell's queues, ports of memory and post-processing, which all kinds of array share."""
