"""The profiles, without HTTP, and the modules that several share."""
