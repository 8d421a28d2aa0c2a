"""Tests of the `kvtwist` command, run in this process."""
