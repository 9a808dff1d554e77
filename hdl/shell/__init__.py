"""The shell that all kinds of array share: program, queues, tokens, ports of memory, registers, counters."""
