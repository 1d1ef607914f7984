"""Open WebUI: reading its groups, members and users, and installing the event function that triggers a sync."""
