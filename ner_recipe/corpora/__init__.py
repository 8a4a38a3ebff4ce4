"""Any source of annotated text -> splits with words, tags and documents."""
