"""The weights ``rendered`` for vidpose: this folder holds their files."""
