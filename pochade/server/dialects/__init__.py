"""What is spoken over HTTP, a folder for each dialect. They know the service and nothing of one another."""
