"""From scans to the volumes that networks read: pure array steps and the volume store."""
