"""runmgr."""
