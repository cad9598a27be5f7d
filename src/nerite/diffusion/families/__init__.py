"""One file per architecture: how its networks make a picture."""
