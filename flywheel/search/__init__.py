"""Search: an encoder of the corpus, its vectors of all clips, and the clips that are like a text, a video, a sound."""
