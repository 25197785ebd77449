"""What schedules and events start: backups, copies, checks, watches, exercises."""
