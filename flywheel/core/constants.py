"""Constants that the command line needs at once: the types beside them take longer to be made."""

#: The kind of text that rounds learn, measure and gate.
CAPTION = "caption"
#: Seeds are from 0 to this, wherever there is one.
MAX_SEED = 2**31
#: Ends of spans given by people or other tools are rounded, in seconds; this much beyond a file's end is meant as its
#: end.
SPAN_GRACE_S = 0.05
