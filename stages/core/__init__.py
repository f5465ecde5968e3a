"""What every stage rests on: its command line, parameters, files, tables and results."""
