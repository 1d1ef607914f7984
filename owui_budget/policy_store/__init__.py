"""The limits and memberships in force: written by sync, read by the hooks."""
