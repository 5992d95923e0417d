"""Layers over images: (B, C, H, W)."""

from layers.image.blur_pool_2d import BlurPool2d
from layers.image.deform_conv_2d import DeformConv2d
from layers.image.global_response_norm import GlobalResponseNorm
from layers.image.involution_2d import Involution2d
from layers.image.layer_norm_2d import LayerNorm2d
from layers.image.spatial_transformer import SpatialTransformer
from layers.image.squeeze_excite import SqueezeExcite

__all__ = [
    "BlurPool2d",
    "DeformConv2d",
    "GlobalResponseNorm",
    "Involution2d",
    "LayerNorm2d",
    "SpatialTransformer",
    "SqueezeExcite",
]
