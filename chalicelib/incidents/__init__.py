"""The life of an incident: opened by a signal, one run at a time, closed with its evidence."""
