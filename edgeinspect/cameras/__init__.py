"""Camera plugins, one file each. The file's name is the `type:` in the configuration."""
