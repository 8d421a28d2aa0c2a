"""
Looking at a store from outside, whole or damaged: what the tools check, dump and repair with.

It never changes a byte, never gives up at the first thing that is wrong, and parses nothing itself: the journal, the
page and the manifest are read by their own modules.
"""
