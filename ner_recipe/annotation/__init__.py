"""annotate.py: files of documents -> files of entities, in chunks that survive a kill."""
