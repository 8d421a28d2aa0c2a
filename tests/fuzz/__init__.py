"""Fuzzing of the front: `python -m tests.fuzz` with atheris, for a long time; `test_target.py` without it, for a short one."""
