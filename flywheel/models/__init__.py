"""One way to load a vision-language model, build its inputs, and score texts under it."""
