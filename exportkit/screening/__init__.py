"""Files from elsewhere, read with limits of our own before any parser sees them: what is wrong with one, in one line."""
