"""
Inspection of a store from outside, for the commands that check, dump and repair.

It never changes a byte, does not stop at the first fault, and parses no format itself: journal, pages and manifest are
read by their own modules.
"""
