"""The library behind the commands: from a corpus to a trained, tested and published model."""
