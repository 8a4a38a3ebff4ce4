"""Files of whole documents, with or without entities: reading and writing."""
