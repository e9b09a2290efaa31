"""Writers of public data sets' layouts, to try the readers on synthetic subjects."""
