"""The C of the program that measures candidates on a device; it needs nothing there but Linux."""
