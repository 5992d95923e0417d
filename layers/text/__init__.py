"""Layers over text: embeddings, positions, attention and gates."""

from layers.text.alibi_bias import AlibiBias
from layers.text.grouped_query_attention import GroupedQueryAttention
from layers.text.hash_embedding import HashEmbedding
from layers.text.rms_norm import RMSNorm
from layers.text.rotary_embedding import RotaryEmbedding
from layers.text.swiglu import SwiGLU

__all__ = ["AlibiBias", "GroupedQueryAttention", "HashEmbedding", "RMSNorm", "RotaryEmbedding", "SwiGLU"]
