"""What operators see: metrics when they are asked for, and logs. Reads counters; nobody imports this to count."""
