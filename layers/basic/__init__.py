"""The smallest custom layers: one without and one with parameters."""

from layers.basic.centered import CenteredLayer
from layers.basic.my_linear import MyLinear

__all__ = ["CenteredLayer", "MyLinear"]
