"""Sound as arrays: samples in, events or samples out. Nothing here touches a file."""
