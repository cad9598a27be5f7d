"""Runs Triton's own public tests, from checkouts that the user names, against our server.

Nothing of Triton's is in here: a suite is a description of files to run, models to make ready and
flags to start with.
"""
