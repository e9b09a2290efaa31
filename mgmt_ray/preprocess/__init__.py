"""From scans to the volumes and slices that networks read: array steps, and their stores."""
