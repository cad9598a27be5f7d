"""Floor 4: how a request comes in. Protocols never import each other; all take a Server."""
