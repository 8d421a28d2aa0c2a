"""The documents say what is so: links, tables, commands and code in them are checked against the code."""
