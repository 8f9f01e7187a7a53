"""One module a group; each has ``faults(bed)``, which yields them."""
