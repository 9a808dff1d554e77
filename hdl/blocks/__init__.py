"""Building blocks that know nothing of accelerators: buses, queues, delays, memories, rules."""
