"""People from MakeHuman's assets and motion capture, rendered with exact labels."""
