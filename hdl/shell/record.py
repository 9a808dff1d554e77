"""Profile record: the words that a STORE with `profile` writes, 32 bits each, counts since start modulo 2**32."""

__all__ = ["RECORD"]

#: Names of the words, by kind of array. ``active_pes`` alone is no count: it is the greatest number of PEs that a
#: setup has made active since the record before.
RECORD: dict[str, tuple[str, ...]] = {
    "systolic": ("cycles", "read_beats", "write_beats", "active"),
    "row-stationary": (
        "cycles", "read_beats", "write_beats", "active", "stall_dram", "macs", "gated", "passed", "ifmap_reads",
        "psum_reads", "psum_writes", "filter_reads", "fills", "ifmap_spad_writes", "filter_spad_writes", "active_pes",
    ),
}
