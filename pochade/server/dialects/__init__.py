"""What is spoken over HTTP, a file for each dialect; all of them know the desk and nothing of one another."""
