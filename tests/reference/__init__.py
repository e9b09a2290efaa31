"""Values and plain implementations that the package is compared with."""
