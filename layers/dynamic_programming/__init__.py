"""Dynamic programs: sums and maxima over all paths, alignments and trees."""

from layers.dynamic_programming.ctc_loss import CTCLoss
from layers.dynamic_programming.ctc_prefix_beam_search import CTCPrefixBeamSearch
from layers.dynamic_programming.dynamic_time_warping import DynamicTimeWarping
from layers.dynamic_programming.edit_distance import EditDistance
from layers.dynamic_programming.inside import Inside
from layers.dynamic_programming.linear_chain_crf import LinearChainCRF
from layers.dynamic_programming.needleman_wunsch import NeedlemanWunsch
from layers.dynamic_programming.sinkhorn import Sinkhorn
from layers.dynamic_programming.sinkhorn_converged import SinkhornConverged
from layers.dynamic_programming.smith_waterman import SmithWaterman
from layers.dynamic_programming.soft_dtw import SoftDTW

__all__ = [
    "CTCLoss",
    "CTCPrefixBeamSearch",
    "DynamicTimeWarping",
    "EditDistance",
    "Inside",
    "LinearChainCRF",
    "NeedlemanWunsch",
    "Sinkhorn",
    "SinkhornConverged",
    "SmithWaterman",
    "SoftDTW",
]
