"""How soon a POST may give its bank back: while it reads its last rows, if what comes overwrites behind it.

An EXECUTE that overwrites comes to a row every cycle, a POST to one in as many cycles as a row has groups. So the
EXECUTE may begin before the POST has done, if it comes to each row when that has been read. Its second tile adds to
sums and reads them through the bank's only port: until then the POST must have read all.
"""

from collections.abc import Mapping

from ...hdl.shell.commands import ROW_WRAP
from ...hdl.shell.config import Config
from .timing import Latencies, execution

__all__ = ["release"]


def release(config: Config, post: Mapping[str, int], execute: Mapping[str, int]) -> int:
    """Rows of a POST's last tile with which it may give its bank back; 0 if no sooner than to any EXECUTE.

    Parameters
    ----------
    config : Config
        Configuration.
    post, execute : mapping
        Bodies of the POST, and of the first EXECUTE that comes to the bank behind it.
    """
    constants, depth = Latencies.of(config), config.sum_rows
    if (execute.get("output_stationary") or not execute.get("first") or execute.get("rescale")
            or post.get("average") or post.get("search")):
        return 0
    vectors, _, period, _, _ = execution(config, execute)
    each, rows, tile = constants.of_row(post), post["m_count"], (post["n_count"] - 1) * post.get("acc_nstep", 0)
    # Cycles from then to the first sum that the EXECUTE can come to; its second tile begins a period later.
    begins = constants.untouched + 1
    left = min((begins + period) // each, rows)
    # The first vector and the POST's first row are as far apart; rows wrap, so that a part may lie before the former.
    ahead = ((post.get("acc_base", 0) + tile) % ROW_WRAP - execute.get("acc_base", 0)) % depth
    for row, vector in ((0, ahead), (depth - ahead, 0)):
        # Of rows that follow one another in both, the last is the first to be overtaken.
        common = min(rows - row, vectors - vector, depth - vector)
        if common > 0:
            left = min(left, (begins + vector + common - 1) // each + rows - row - common)
    return left if left > constants.few else 0
