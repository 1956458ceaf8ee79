"""What each network is asked to get right."""
