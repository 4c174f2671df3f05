"""How people hold a phone: smallest and largest value, degrees. Photos are simulated and cut within these ranges."""

FOV_DEG = 50.0, 80.0  # field of view along the longer side
PITCH_DEG = -4.0, 8.0  # positive values look up
ROLL_DEG = -4.0, 4.0
