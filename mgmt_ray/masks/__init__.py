"""Tumour masks that networks predict, for subjects that have none or to compare with given ones."""
