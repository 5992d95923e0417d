"""Layers over sequences: (B, T, ...)."""

from layers.sequence.causal_conv_block import CausalConvBlock
from layers.sequence.conv_lstm import ConvLSTM
from layers.sequence.min_gru import MinGRU
from layers.sequence.minimal_gated_unit import MinimalGatedUnit
from layers.sequence.retention import Retention
from layers.sequence.selective_scan import SelectiveScan

__all__ = ["CausalConvBlock", "ConvLSTM", "MinGRU", "MinimalGatedUnit", "Retention", "SelectiveScan"]
