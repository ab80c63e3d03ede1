"""One base class for each place where a method acts."""
