"""Who is present where: what this node's connections say of it, written to the log; and whose lease has run out."""
