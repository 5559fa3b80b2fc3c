"""What every Pinhole service shares. It knows no service and holds no business word."""
