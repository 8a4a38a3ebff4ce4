"""Files of whole documents, with or without entities: reading (files.py) and writing (writing.py)."""
