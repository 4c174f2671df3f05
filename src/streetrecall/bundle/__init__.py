"""The bundle: the trained embedder, its gallery and its calibration as files that answer a photo on another machine.

What is imported here and below when a photo is answered must stay quick to import: no TensorFlow, pandas or SciPy.
"""
