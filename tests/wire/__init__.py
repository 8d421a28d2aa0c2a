"""How bytes become requests and replies, over every profile: framing, order, hang-ups, and no HTTP at all."""
