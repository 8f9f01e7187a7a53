"""Constants that the command line needs at once: the types beside them take longer to be made."""

#: The kind of text that rounds learn, measure and gate.
CAPTION = "caption"
#: Seeds are from 0 to this, wherever there is one.
MAX_SEED = 2**31
