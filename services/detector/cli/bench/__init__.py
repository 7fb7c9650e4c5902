"""What `sightline bench` measures with. The commands are in `commands`; the peers run without them."""
