"""Hardware-aware neural architecture search for microcontrollers."""

__version__ = "0.1.0"

__all__ = ["__version__"]
