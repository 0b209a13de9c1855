"""Images on a device, as tasks see them."""
