"""A constructor refuses what is out of range, and names it."""

import pytest

from layers import dynamic_programming, image, sequence, text

WRONG = [
    (image.LayerNorm2d, {"channels": 0}, "channels"),
    (image.GlobalResponseNorm, {"channels": 0}, "channels"),
    (image.SqueezeExcite, {"channels": 4, "hidden": 0}, "hidden"),
    (image.BlurPool2d, {"channels": 4, "kernel_size": 4}, "kernel_size"),
    (image.BlurPool2d, {"channels": 4, "stride": 0}, "stride"),
    (image.Involution2d, {"channels": 4, "groups": 3}, "channels"),
    (image.Involution2d, {"channels": 4, "kernel_size": 2}, "kernel_size"),
    (image.SpatialTransformer, {"channels": 1, "hidden": 0}, "hidden"),
    (image.DeformConv2d, {"in_channels": 1, "out_channels": 0}, "out_channels"),
    (image.DeformConv2d, {"in_channels": 1, "out_channels": 1, "padding": -1}, "padding"),
    (text.RMSNorm, {"width": 0}, "width"),
    (text.RotaryEmbedding, {"width": 3}, "width"),
    (text.AlibiBias, {"heads": 0}, "heads"),
    (text.SwiGLU, {"width": 1, "hidden": 0}, "hidden"),
    (text.GroupedQueryAttention, {"width": 6, "heads": 2, "key_heads": 1}, "width"),
    (text.GroupedQueryAttention, {"width": 12, "heads": 3, "key_heads": 2}, "heads"),
    (text.HashEmbedding, {"rows": 2, "width": 2, "hashes": 0}, "hashes"),
    (sequence.MinimalGatedUnit, {"inputs": 0, "units": 1}, "inputs"),
    (sequence.MinGRU, {"inputs": 1, "units": 0}, "units"),
    (sequence.SelectiveScan, {"width": 1, "rank": 0}, "rank"),
    (sequence.CausalConvBlock, {"inputs": 1, "outputs": 1, "dilation": 0}, "dilation"),
    (sequence.ConvLSTM, {"channels": 1, "hidden": 1, "kernel_size": 2}, "kernel_size"),
    (sequence.Retention, {"width": 6, "heads": 2}, "width"),
    (dynamic_programming.LinearChainCRF, {"tags": 0}, "tags"),
    (dynamic_programming.LinearChainCRF, {"tags": 2, "k": 0}, "k"),
    (dynamic_programming.CTCPrefixBeamSearch, {"beam": 0}, "beam"),
    (dynamic_programming.SoftDTW, {"gamma": 0.0}, "gamma"),
    (dynamic_programming.NeedlemanWunsch, {"gap": 1.0}, "gap"),
    (dynamic_programming.SmithWaterman, {"gap": 1.0}, "gap"),
    (dynamic_programming.Sinkhorn, {"epsilon": 0.0}, "epsilon"),
    (dynamic_programming.Sinkhorn, {"iterations": 0}, "iterations"),
    (dynamic_programming.SinkhornConverged, {"tolerance": 0.0}, "tolerance"),
    (dynamic_programming.Inside, {"symbols": 0}, "symbols"),
]


@pytest.mark.parametrize(("kind", "given", "name"), WRONG)
def test_an_argument_out_of_range_is_named(kind, given, name):
    with pytest.raises(ValueError, match=rf"^{name} must be"):
        kind(**given)
