"""The weights ``open`` for vidpose: this folder holds their files."""
