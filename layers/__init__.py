"""Layers that torch does not have: one implementation each, eager, differentiable, scriptable and exportable."""
