"""What is deployed: the zip, and the templates that follow from a plan."""
