"""What is put onto machines."""
