"""defects: which of several defects a picture of a steel surface shows. Free of torch."""
