"""DICOM: from a folder's files to one volume."""
