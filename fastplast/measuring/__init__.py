"""What is measured of a group at a task's start and end."""
