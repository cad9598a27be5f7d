"""The commands that are clients of a running server: each is a program over `nerite.client`."""
