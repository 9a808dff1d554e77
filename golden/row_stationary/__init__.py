"""Row-stationary mapping of a convolution onto a PE array, and what it costs in closed form.

Names and parameters are those of Eyeriss (JSSC 2017, section IV and tables II and III). A PE
convolves rows: it holds ``q`` channels of ``p`` filters' rows of S taps, slides over an ifmap row and
makes a psum row of each filter. R x ``e`` PEs are a PE set: filter row i meets ifmap row U j + i in PE
(i, j), and sums go up its columns to row j of the ofmap. ``r`` sets work on different channels, with their sums
added, and ``t`` sets on different filters. In one processing pass the array works on ``n`` ifmaps, ``q r``
channels and ``p t`` filters. The global buffer holds the psums of ``m`` ofmap channels, for ``n``
ifmaps and ``e`` rows, until all channels have been added.

Four parameters are our own: ``g`` groups of a convolution side by side; ``rows`` and ``columns`` of the filter in
a pass, where not all fit; and ``images`` of a pass, where the n ifmaps take several, which use the same filters.
"""

from .legality import check
from .mapping import Mapping
from .passes import LayerMapping
from .pieces import Block, Filters, Loop, Part, Span, Work

__all__ = ["Block", "Filters", "LayerMapping", "Loop", "Mapping", "Part", "Span", "Work", "check"]
