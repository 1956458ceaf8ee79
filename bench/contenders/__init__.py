"""What is compared: each file is one way to run the same network. Heavy imports wait inside functions."""
