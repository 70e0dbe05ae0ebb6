"""Properties of the whole chain, from marks and sightings to the settled books."""
