"""Which clips are kept: columns of evidence, a probability that means something on this corpus, and policies.

Every part but :mod:`flywheel.curation.evidence` and :mod:`flywheel.curation.curating` is a pure function of arrays.
"""
