"""Ways by which messages leave, one module each; senders.py chooses among them."""
