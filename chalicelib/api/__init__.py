"""HTTP routes. Each checks who asks, hands the work on, and answers at once."""
