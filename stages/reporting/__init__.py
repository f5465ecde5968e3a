"""What people read: the report of a pull request, its pictures, what a run is going to do."""
